"""DARE: drop elements of each D_i at random, divide the rest by the share kept, D = Σ w D_i.  Yu et al. 2023,
arXiv:2311.03099.

`density`: the share kept (the paper drops p = 90 % and more of large models' deltas). Which, follows from the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.strategies.base import Weights
from adaptr.strategies.elementwise import Elementwise, add, thin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    density: float = 0.1


class DARE(Elementwise[Config]):
    name = "dare"
    random = True

    def block(
        self, parts: list[Tensor], weights: Weights, cfg: Config, ready: list[Any], draw: Callable[[int], Tensor]
    ) -> Tensor:
        return add(self.thinned(parts, cfg, draw), weights)

    def thinned(self, parts: list[Tensor], cfg: Config, draw: Callable[[int], Tensor]) -> list[Tensor]:
        """Each delta with its random elements dropped and the others rescaled."""
        return [thin(D, draw(i), cfg.density).div_(cfg.density) for i, D in enumerate(parts)]
