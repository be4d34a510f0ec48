"""Magnitude pruning: D = Σ w (D_i where it is among its largest values, else 0), not rescaled.  Han et al. 2015,
arXiv:1506.02626.

`density`: the share kept of each delta at each target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.strategies.base import Operators, Weights
from adaptr.strategies.elementwise import Elementwise, add, largest, trim

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    density: float = 0.5


class MagnitudePrune(Elementwise[Config]):
    name = "magnitude-prune"

    def prepare(self, ops: Operators, cfg: Config) -> list[Any]:
        return [largest(op, cfg.density) for op in ops]

    def block(
        self, parts: list[Tensor], weights: Weights, cfg: Config, ready: list[Any], draw: Callable[[int], Tensor]
    ) -> Tensor:
        return add([trim(D, edge) for D, edge in zip(parts, ready, strict=True)], weights)
