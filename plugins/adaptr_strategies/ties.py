"""TIES: trim each D_i to its largest values, elect the sign of their sum, D = λ mean of the values that have it.  Yadav
et al. 2023, arXiv:2306.01708.

`density`: the share kept, over each target (the paper's k = 20 %, over all of a model). Weights count in the election
and in the mean, which is Σ w D / Σ |w| over the values that agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.strategies.base import Operators, Weights
from adaptr.strategies.elementwise import ALONE, Elementwise, elect, largest, trim

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    density: float = 0.2
    lam: float = 1.0


class TIES(Elementwise[Config]):
    name = "ties"
    jumps = ALONE
    scale_free = True
    factor = "lam"

    def prepare(self, ops: Operators, cfg: Config) -> list[Any]:
        return [largest(op, cfg.density) for op in ops]

    def block(
        self, parts: list[Tensor], weights: Weights, cfg: Config, ready: list[Any], draw: Callable[[int], Tensor]
    ) -> Tensor:
        trimmed = [trim(D, edge) for D, edge in zip(parts, ready, strict=True)]
        return elect(trimmed, weights, cfg.lam)
