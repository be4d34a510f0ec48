"""Cross-attention tuning: W' = W + D, b' = b + d of the decoder's attention to the encoder.  Gheini et al. 2021,
arXiv:2104.08771.

Query, key, value and output; with `norm` the norm before or behind them too. The paper trains the embeddings of a new
language beside them, which `also` names. A model without such an attention is refused.

Choose it for a new language or a new kind of input of an encoder-decoder: what connects the two changes, both keep what
they know. There is nothing to choose elsewhere, and it stores these layers whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Target
from adaptr_plugins.delta.full import Full
from adaptr_plugins.select.ln_tuning import with_bias

if TYPE_CHECKING:
    from torch import nn


#: What models call it: BART and its kin, T5, BERT, torch's own; and the norms that belong to it.
ATTENTION = r"encoder_attn|EncDecAttention|crossattention|cross_attn|multihead_attn"
NORMS = (r"re:(.*\.)?encoder_attn_layer_norm", r"re:(.*\.)?decoder\.block\.\d+\.layer\.1\.layer_norm")
INSIDE = rf"re:(.*\.)?({ATTENTION})\."


@dataclass(frozen=True)
class Config:
    norm: bool = False
    bias: bool = False


class CrossAttention(Full):
    name = "cross-attention"
    family = "select"
    Config = Config
    default_for = frozenset()

    def usual(self, model: nn.Module, config: Mapping[str, Any]) -> list[str]:
        return places(model, vars(self.config(config))["norm"])

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return with_bias(model, target, values)


def places(model: nn.Module, norm: bool) -> list[str]:
    """Paths of the layers, and of the norms that belong to them."""
    from adaptr import targets

    found = targets.resolve(model, INSIDE + ".*", CrossAttention.kinds)
    own = [place.path for place in found if norm or place.is_matrix]
    every = {place.path for place in targets.resolve(model, "re:.*", CrossAttention.kinds)} if norm else set()
    return own + [path for path in sorted(every) if any(re.fullmatch(pattern[3:], path) for pattern in NORMS)]
