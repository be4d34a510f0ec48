"""DARE-TIES: drop and rescale as `dare`, then elect signs and take the mean as `ties`.  Yu et al. 2023,
arXiv:2311.03099.

There is no trimming by size: what is dropped is drawn. `lam` scales the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.strategies import get
from adaptr.strategies.base import Weights
from adaptr.strategies.elementwise import ALONE, Elementwise, elect

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    density: float = 0.1
    lam: float = 1.0


class DARETIES(Elementwise[Config]):
    name = "dare-ties"
    random = True
    jumps = ALONE
    scale_free = True
    factor = "lam"

    def block(
        self, parts: list[Tensor], weights: Weights, cfg: Config, ready: list[Any], draw: Callable[[int], Tensor]
    ) -> Tensor:
        dare: Any = get("dare")
        return elect(dare.thinned(parts, cfg, draw), weights, cfg.lam)
