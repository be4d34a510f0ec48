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
from adaptr.strategies.elementwise import ALONE, Elementwise, elect

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    density: float = 0.3
    epsilon: float = 0.2
    lam: float = 1.0


class DELLA(Elementwise[Config]):
    name = "della"
    random = True
    jumps = ALONE
    scale_free = True
    factor = "lam"

    def check(self, cfg: Config) -> None:
        if not 0 <= cfg.epsilon / 2 < min(cfg.density, 1 - cfg.density + 1e-12):
            raise BadConfig(
                "strategy `della`: `epsilon`",
                got=cfg.epsilon,
                want=f"less than twice the smaller of `density` {cfg.density} and what is dropped, so that "
                "every chance lies between 0 and 1",
            )

    def block(
        self, parts: list[Tensor], weights: Weights, cfg: Config, ready: list[Any], draw: Callable[[int], Tensor]
    ) -> Tensor:
        return elect([self.pruned(D, cfg, draw(i)) for i, D in enumerate(parts)], weights, cfg.lam)

    def pruned(self, D: Tensor, cfg: Config, bits: Tensor) -> Tensor:
        """D, in place, with its rows thinned out."""
        import numpy as np

        n = D.shape[1]
        chance = 1 - (1 - cfg.density - cfg.epsilon / 2 + cfg.epsilon / n * np.arange(n))
        stays, values = np.empty(D.shape), D.numpy()
        np.put_along_axis(stays, _falling(D), np.broadcast_to(chance, D.shape), axis=1)
        drawn = (bits.numpy().view(np.uint64) >> np.uint64(11)) * 2.0**-53
        np.divide(values, stays, out=values, casting="same_kind")
        np.multiply(values, drawn < stays, out=values)
        return D


def _falling(D: Tensor) -> NDArray[np.int64]:
    """The columns of each row by falling magnitude, equal ones from left to right (rows, n) int64.

    Size and column are sorted as one integer, whose order is total, so no stable sort (five times slower) is wanted.
    """
    import numpy as np
    import torch

    if D.itemsize > 4:  # too many bits to be sorted together with a column
        return np.argsort(-D.abs().numpy(), axis=1, kind="stable")
    # the bits of non-negative floats are ordered as integers
    sizes = np.iinfo(np.int32).max - D.abs().view(torch.int32).numpy()
    keys = sizes.astype(np.int64) << 32 | np.arange(D.shape[1])
    keys.sort(axis=1)
    return keys & 0xFFFFFFFF
