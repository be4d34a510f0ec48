"""DELLA: drop elements at random, small ones likelier, divide the rest by their chance to stay; then signs and mean as
`ties`.  Deep, Bhardwaj and Poria 2024, arXiv:2406.11617.

In each row of n values the r-th by falling size, r = 0 ... n-1, is dropped with p_r = p - ε/2 + ε r / n, p = 1 -
density; what stays is divided by 1 - p_r.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.errors import BadConfig
from adaptr.strategies.base import Weights
from adaptr.strategies.elementwise import Elementwise, elect

if TYPE_CHECKING:
    from torch import Tensor


class DELLA(Elementwise):
    name = "della"
    random = True

    @dataclass(frozen=True)
    class Config:
        density: float = 0.3
        epsilon: float = 0.2
        lam: float = 1.0

    def check(self, cfg: Any) -> None:
        if not 0 <= cfg.epsilon / 2 < min(cfg.density, 1 - cfg.density + 1e-12):
            raise BadConfig(
                f"strategy `della`: `epsilon` is {cfg.epsilon}, wanted less than twice the smaller of `density` "
                f"{cfg.density} and what is dropped, so that every chance lies between 0 and 1"
            )

    def block(
        self, parts: list[Tensor], weights: Weights, cfg: Any, ready: list[Any], draw: Callable[[int], Tensor]
    ) -> Tensor:
        return elect([self.pruned(D, cfg, draw(i)) for i, D in enumerate(parts)], weights, cfg.lam)

    def pruned(self, D: Tensor, cfg: Any, bits: Tensor) -> Tensor:
        """D with its rows thinned out."""
        import torch

        n = D.shape[1]
        order = D.abs().argsort(dim=1, descending=True, stable=True)
        chance = 1 - (1 - cfg.density - cfg.epsilon / 2 + cfg.epsilon / n * torch.arange(n, dtype=torch.float64))
        stays = torch.empty(D.shape, dtype=torch.float64).scatter_(1, order, chance.expand(D.shape))
        # 63 of the bits against the chance, exact in both
        drawn = ((bits >> 11) & ((1 << 53) - 1)).double() * 2.0**-53
        return (D / stays * (drawn < stays)).float()
