"""What all that is made of two factors has in common: W' = W + s B A, and how it is computed where all is plain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from adaptr import Delta, LowRank, Param, Target, View
from adaptr.contract import Costs, Live

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract.view import Call


@dataclass(frozen=True)
class Scaled:
    """Two factors, and what their product is multiplied by."""

    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False


@dataclass(frozen=True)
class Config(Scaled):
    bias: bool = False


def scale(cfg: Scaled) -> float:
    return cfg.alpha / (math.sqrt(cfg.r) if cfg.rslora else cfg.r)


#: The configuration of a method that is more than these fields.
C = TypeVar("C", bound=Config)


class Factors(Delta[C]):
    """What makes two factors of what it has; `delta` is to be supplied."""

    params = {
        "A": Param("*e r in *k", init="kaiming"),
        "B": Param("*e out r *1", init="zeros"),
        "b": Param("out", init="zeros", when="bias"),
    }
    targets: ClassVar[tuple[str, ...]] = ("all-linear",)
    as_stored = True

    def scale(self, cfg: C) -> float:
        return scale(cfg)

    def delta_bias(self, p: Live, cfg: C) -> Tensor | None:
        return p["b"] * self.scale(cfg) if cfg.bias else None

    def init_rule(self, param: str, target: Target) -> str:
        if target.looked_up:
            return {"A": "zeros", "B": "normal:1"}.get(param, "zeros")
        return super().init_rule(param, target)


class Plain(Factors[C]):
    """Of these very two tensors, whatever is special about how they begin, or learn."""

    def delta(self, p: Live, cfg: C) -> LowRank:
        return LowRank(p["B"], p["A"], self.scale(cfg))

    def costs(self, target: Target, cfg: C) -> Costs | None:
        if not target.is_linear or cfg.dropout:
            return None
        return Costs(input=True, token=cfg.r, flops=2 * cfg.r * sum(target.shape))

    def factors(self, cfg: C) -> tuple[str, str, float] | None:
        return None if cfg.bias else ("B", "A", self.scale(cfg))

    def live(self, base: View, p: Live, cfg: C, weight: float, call: Call) -> Call:
        slots = p.slots
        if base.plain is None or self.factors(cfg) is None or cfg.dropout or slots is None:
            return call
        from adaptr.algebra.fused import bound

        return bound(base, slots, self.scale(cfg) * weight, call)
