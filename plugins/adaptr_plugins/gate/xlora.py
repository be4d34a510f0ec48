"""X-LoRA: y = base(x) + scale Σ s_i D_i x, s = softmax(g(h) / temperature) for each token and layer.  Buehler and
Buehler 2024, arXiv:2402.07148.

h is the last hidden state of a pass of the base alone, g a classifier of `depth` linear layers of width `size`. With
`layerwise` each layer has weights of its own. `top_k`: all but the largest are 0, renormalised with `softmax_topk`.
`probe`: the experts' weight in the pass of the base. Never the identity: a fresh gate weighs its experts about alike.

Choose it where different inputs need different experts and there are records to learn the choice from. Every token
costs a forward before the real one and all experts that are weighed; it can't be merged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr import Gate, Param, Target, targets
from adaptr.contract import Live, Weighing
from adaptr.contract.capabilities import GATE
from adaptr.errors import BadConfig, Unsupported

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    experts: list[str] = field(default_factory=list)
    sites: list[str] = field(default_factory=list)
    layerwise: bool = True
    depth: int = 1
    size: int = 2048
    dropout: float = 0.2
    softmax: bool = True
    temperature: float = 1.0
    top_k: int = 0
    softmax_topk: bool = False
    scale: float = 1.0
    probe: float = 0.0


class XLoRA(Gate[Config]):
    name = "xlora"
    default_for = frozenset({GATE})
    passes = True
    kinds = Gate.kinds | {"model"}
    params = {
        "W_in": Param("size d", init="kaiming", when="depth>1"),
        "b_in": Param("size", init="zeros", when="depth>1"),
        "W_h": Param("hidden size size", init="normal:0.02", when="depth>2"),
        "b_h": Param("hidden size", init="zeros", when="depth>2"),
        "W": Param("outs width", init="kaiming"),
        "b": Param("outs", init="zeros"),
    }

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        n = len(cfg.experts)
        if cfg.depth < 1 or cfg.temperature <= 0 or not 0 <= cfg.top_k <= n:
            raise BadConfig(
                "`xlora`",
                verb="has",
                got=f"depth {cfg.depth}, temperature {cfg.temperature:g}, top_k {cfg.top_k}",
                want=f"depth from 1, a temperature above 0, and up to {n} experts (0 for all)",
            )
        outs = n * len(cfg.sites) if cfg.layerwise else n
        return {"outs": outs, "width": cfg.size if cfg.depth > 1 else target.shape[0], "hidden": cfg.depth - 2}

    def resolved(self, values: dict[str, Any], sites: list[str]) -> dict[str, Any]:
        return {**values, "sites": sites}

    def places(self, model: nn.Module, sites: list[Target]) -> list[Target]:
        return targets.resolve(model, "model", {"model"})

    def number(self, cfg: Config, path: str) -> int:
        return cfg.sites.index(path) if cfg.layerwise else 0

    def scalings(self, hidden: Tensor, p: Live, cfg: Config) -> Tensor:
        z = hidden
        if cfg.depth > 1:
            z = _layer(z, p["W_in"], p["b_in"], cfg, p)
        for i in range(cfg.depth - 2):
            z = _layer(z, p["W_h"][i], p["b_h"][i], cfg, p)
        from torch.nn.functional import linear

        s = linear(z, p["W"], p["b"])
        s = s.reshape(*s.shape[:-1], -1, len(cfg.experts))
        s = (s / cfg.temperature).softmax(-1) if cfg.softmax else s
        return cfg.scale * (_largest(s, cfg) if cfg.top_k or cfg.softmax_topk else s)

    def mix(self, x: Tensor, p: Weighing, cfg: Config) -> Tensor:
        if p.signal.value is None:
            raise Unsupported(
                "`xlora`: a layer was called outside of its model, where there are no weights for it",
                hint="to recompute layers in training use the model's own `activation_checkpointing_enable`",
            )
        s: Tensor = p.signal.value[..., p.number, :]
        return s


def _layer(z: Tensor, W: Tensor, b: Tensor, cfg: Config, p: Live) -> Tensor:
    from torch.nn.functional import dropout, linear, relu

    return dropout(relu(linear(z, W, b)), cfg.dropout, p.training)


def _largest(s: Tensor, cfg: Config) -> Tensor:
    """The `top_k` largest weights of each token, and their softmax where that is wanted."""
    import torch

    chosen = torch.ones_like(s, dtype=torch.bool)
    if cfg.top_k:
        chosen = torch.zeros_like(chosen).scatter(-1, s.topk(cfg.top_k, dim=-1).indices, True)
    return s.masked_fill(~chosen, float("-inf")).softmax(-1) if cfg.softmax_topk else s * chosen
