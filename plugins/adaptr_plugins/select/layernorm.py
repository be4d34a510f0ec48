"""LayerNorm tuning: γ' = γ + D, β' = β + b, of the norms inside of the blocks.  Zhao et al. 2023, arXiv:2312.11420.

As `ln-tuning` without the norms around the blocks. Which norms the paper means is not confirmed ([M]): it speaks of
those within each attention block. Its connector between vision and language is named by `also`.

Choose it where an adapter must be smaller than any LoRA and merge without a trace, as for the manner of answers or for
what another kind of input looks like. It can't teach facts or skills that the base has not.
"""

from __future__ import annotations

from adaptr_plugins.select.ln_tuning import LNTuning


class LayerNorm(LNTuning):
    name = "layernorm"
    targets = (r"re:(.*\.)?\d+\..*",)
