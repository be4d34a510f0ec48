"""Bottlenecks whose projections are sums of Kronecker products, H = Σᵢ Aᵢ ⊗ Bᵢ: what PHM and Compacter share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from adaptr import Insert, Target
from adaptr.contract import Costs, Live
from adaptr.errors import BadConfig
from adaptr.families.insert import activation, inner, read

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    """`residual`, `calls` and `reads` as `pfeiffer` has them: what is read is h unless they say otherwise."""

    m: int = 24
    n: int = 4
    activation: Literal["relu", "gelu", "gelu_new", "silu", "tanh"] = "gelu_new"
    residual: bool = False
    calls: str = ""
    reads: str = ""


P = TypeVar("P", bound=Config)


class Phm(Insert[P]):
    """A subclass supplies `rule(p, side)`: A (n, n, n) and B (n, in/n, out/n) of the projection `d` or `u`."""

    identity = False
    averages = False  # of factors, whose mean gives another product
    possible = "keep it attached; write its products out as the projections of a bottleneck"

    def rule(self, p: Live, side: str) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: P) -> Tensor:
        D, U = (self.projection(p, side) for side in "du")
        return activation(cfg.activation)(read(h, x, p, cfg) @ D + p["b_d"]) @ U + p["b_u"]

    def projection(self, p: Live, side: str) -> Tensor:
        return p.derived(side, p.sources(1.0), lambda: summed(*self.rule(p, side)))

    def axes(self, target: Target, cfg: P) -> dict[str, int]:
        for size, called in ((target.shape[0], f"the width of `{target.path}`"), (cfg.m, "`m`")):
            if size % cfg.n:
                raise BadConfig(f"`{self.name}`: {called}", got=size, want=f"a multiple of `n`, {cfg.n}")
        return {"d_n": target.shape[0] // cfg.n, "m_n": cfg.m // cfg.n}

    def init_rule(self, param: str, target: Target) -> str:
        """Factors that say `uniform` start as Glorot's with a gain of √2, each of its matrices by itself."""
        found = super().init_rule(param, target)
        if found != "uniform":
            return found
        _, rows, columns = self.shapes(target)[param]
        return f"uniform:{math.sqrt(12 / (rows + columns))}"

    def costs(self, target: Target, cfg: P) -> Costs:
        d = target.shape[0]
        return Costs(token=d + inner(cfg.activation) * cfg.m, once=2 * d * cfg.m, flops=4 * cfg.m * d)


def summed(A: Tensor, B: Tensor) -> Tensor:
    """Σᵢ Aᵢ ⊗ Bᵢ (in, out): block (a, b) is Σᵢ Aᵢ[a, b] Bᵢ."""
    import torch

    return torch.einsum("iab,ipq->apbq", A, B).flatten(2).flatten(0, 1)
