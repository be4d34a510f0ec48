"""Gated LoRA: y = W x + σ(g x + c) B A x, UniPELT's part beside weights.  Mao et al. 2022, arXiv:2110.07577.

The gate is the mean over a text without its padding, which the paper's code has in it; in models that generate each
token has its own, as a mean would look ahead (`of`). With `scale="alpha"` it is times α / r, which the paper's code
leaves out. With several `gates` each is of an equal part of the rank, as the queries and values of a layer that is both
have. g starts as a normal of 0.02. Not on attentions to another text.

Choose it in `unipelt`, or where a LoRA should be on for some inputs alone. It costs LoRA and one product of a vector
each token; where every input needs it, LoRA does the same and can be merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Insert, Param, Target
from adaptr.contract import Live, Mount
from adaptr.errors import BadConfig
from adaptr_plugins.insert import _gated
from adaptr_plugins.insert._gated import Of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter


@dataclass(frozen=True)
class Config:
    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    scale: Literal["gate", "alpha"] = "gate"
    of: Of = "auto"
    gates: int = 1


class GatedLoRA(Insert[Config]):
    name = "gated-lora"
    params = {"A": Param("r in", init="kaiming"), "B": Param("out r"), **_gated.params("gated", "gates")}
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q|attn.qkv", "attn.v|attn.qkv")
    unmergeable = "gated"
    possible = "keep it attached"
    averages = False
    rate = 5e-4
    small = {"r": 4}

    def accepts(self, model: nn.Module, target: Target) -> bool:
        return not _gated.crosses(target.path)

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return _gated.said(model, target, values)

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if cfg.r % cfg.gates:
            raise BadConfig(f"`{self.name}`: `gates`", got=cfg.gates, want=f"a divisor of the rank, {cfg.r}")
        return {"gated": cfg.gates * target.shape[1]}

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        texts = _gated.texts(adapter)
        return [Mount(path, "output", context=path in texts) for path in adapter.targets]

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        from torch.nn.functional import dropout, linear

        scale = cfg.alpha / cfg.r if cfg.scale == "alpha" else 1.0
        s = scale * _gated.gates(x, p, cfg.of).repeat_interleave(cfg.r // cfg.gates, -1)
        return linear(s * linear(dropout(x, cfg.dropout, p.training), p["A"]), p["B"])
