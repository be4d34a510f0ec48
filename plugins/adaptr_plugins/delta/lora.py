"""LoRA: W' = W + s B A, s = alpha / r, or alpha / sqrt(r) with `rslora`.  Hu et al. 2021, arXiv:2106.09685.

On look-up tables the roles of the factors are swapped at the start (A zero, B normal), so that the factor that is
looked up is the zero one. Expert stacks have one pair for each expert. `rslora`: Kalajdzievski 2023, arXiv:2312.03732.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, LowRank, Operator, Param, Target, View
from adaptr.contract import Costs, Live
from adaptr.contract.capabilities import LOW_RANK

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract.view import Call


@dataclass(frozen=True)
class Config:
    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False
    bias: bool = False


class LoRA(Delta[Config]):
    name = "lora"
    params = {
        "A": Param("*e r in *k", init="kaiming"),
        "B": Param("*e out r *1", init="zeros"),
        "b": Param("out", init="zeros", when="bias"),
    }
    targets = ("all-linear",)
    as_stored = True
    forms = frozenset({LOW_RANK})
    default_for = frozenset({LOW_RANK})

    def scale(self, cfg: Config) -> float:
        return cfg.alpha / (math.sqrt(cfg.r) if cfg.rslora else cfg.r)

    def delta(self, p: Live, cfg: Config) -> LowRank:
        return LowRank(p["B"], p["A"], self.scale(cfg))

    def delta_bias(self, p: Live, cfg: Config) -> Tensor | None:
        return p["b"] * self.scale(cfg) if cfg.bias else None

    def written(self, op: Operator | None, bias: Tensor | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Scales go into B: alpha is the rank."""
        assert op is not None
        low = op.low_rank()
        r = low.A.shape[1 if low.experts else 0]
        A, B = low.A.to(low.dtype), low.B.to(low.dtype)
        tensors = {"A": A.contiguous(), "B": (B if low.scale == 1.0 else B * low.scale).contiguous()}
        config = {"r": r, "alpha": float(r), "bias": bias is not None}
        return config, tensors if bias is None else {**tensors, "b": bias}

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        if not target.is_linear or cfg.dropout:
            return None
        return Costs(input=True, token=cfg.r, flops=2 * cfg.r * sum(target.shape))

    def factors(self, cfg: Config) -> tuple[str, str, float] | None:
        return None if cfg.bias else ("B", "A", self.scale(cfg))

    def live(self, base: View, p: Live, cfg: Config, weight: float, call: Call) -> Call:
        slots = p.slots
        if base.plain is None or cfg.bias or cfg.dropout or slots is None:
            return call
        from adaptr.algebra.fused import bound

        return bound(base, slots, self.scale(cfg) * weight, call)

    def init_rule(self, param: str, target: Target) -> str:
        if target.looked_up:
            return {"A": "zeros", "B": "normal:1"}.get(param, "zeros")
        return super().init_rule(param, target)
