"""Prompt tuning: the model reads [P; E(x)], P (tokens, d) trained, everything else frozen.  Lester et al. 2021,
arXiv:2104.08691.

P starts as the embeddings of tokens drawn without replacement: the paper's uniform in +-0.5 fits T5's scale only. In
encoder-decoder models P goes to the encoder. Some files hold `submodules` times the rows; the first `tokens` count.
Not the identity when fresh: tokens in front are read.

Choose it where an adapter must be a few rows in front of the text, on a base of billions: there it comes near to full
fine-tuning in the paper. On small models it stays far behind LoRA, it learns slowly at low rates, and takes places of
the context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, SoftPrompt, Target
from adaptr.contract import Costs, Live
from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter


@dataclass(frozen=True)
class Config:
    tokens: int = 20
    rows: int = 20
    init: Literal["vocab", "normal"] = "vocab"


class Prompt(SoftPrompt[Config]):
    name = "prompt"
    small = {"tokens": 3}
    params = {"P": Param("rows d", init="normal:0.02")}

    def prompt(self, p: Live, cfg: Config) -> Tensor:
        return p["P"][: cfg.tokens]

    def costs(self, target: Target, cfg: Config) -> Costs:
        return Costs(longer=cfg.tokens)

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        return {"rows": values.get("tokens", 20), **values}

    def begun(self, model: Any, adapter: Adapter, seed: int) -> Adapter:
        table = model.get_input_embeddings()
        if adapter.config["init"] == "normal" or table.weight.is_meta:
            return adapter
        import torch

        tokens, rows = adapter.config["tokens"], adapter.config["rows"]
        ids = torch.randperm(table.num_embeddings, generator=torch.Generator().manual_seed(seed))[:tokens]
        if len(ids) < tokens:
            raise BadConfig(f"`prompt`: {tokens} tokens can't be drawn from {len(ids)}", hint="use init=`normal`")
        # by calling the table, since some scale their output
        P = table(ids.to(table.weight.device)).detach().float().cpu()
        return adapter.replace(tensors={":P": torch.cat([P, P.new_zeros(rows - tokens, P.shape[1])])})
