"""Prompt tuning: the model reads [P; E(x)], P (tokens, d) trained, everything else frozen.  Lester et al. 2021,
arXiv:2104.08691.

P starts as the embeddings of tokens drawn without replacement: the paper's uniform in +-0.5 fits T5's scale only. In
encoder-decoder models P goes to the encoder. Some files hold `submodules` times the rows; the first `tokens` count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, SoftPrompt

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter


class Prompt(SoftPrompt):
    name = "prompt"
    params = {"P": Param("rows d", init="normal:0.02")}

    @dataclass(frozen=True)
    class Config:
        tokens: int = 20
        rows: int = 20
        init: Literal["vocab", "normal"] = "vocab"

    def prompt(self, p: Mapping[str, Tensor], cfg: Any) -> Tensor:
        return p["P"][: cfg.tokens]

    def complete(self, model: nn.Module, values: dict[str, Any]) -> dict[str, Any]:
        return {"rows": values.get("tokens", 20), **values}

    def create(self, model: Any, *args: Any, **kwargs: Any) -> Adapter:
        adapter = super().create(model, *args, **kwargs)
        if adapter.config["init"] == "normal":
            return adapter
        import torch

        table = model.get_input_embeddings()
        seed = kwargs.get("seed", 0)
        ids = torch.randperm(table.num_embeddings, generator=torch.Generator().manual_seed(seed))
        # by calling the table, since some scale their output
        P = table(ids[: adapter.config["tokens"]]).detach().float()
        return adapter.replace(tensors={":P": P})
