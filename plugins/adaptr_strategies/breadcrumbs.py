"""Model breadcrumbs: D = α Σ w (D_i without its largest and its smallest values).  Davari and Belilovsky 2023,
arXiv:2312.06795.

`beta`: the share of the smallest values dropped, `gamma`: the share below which values are not outliers, both over each
target. Defaults: the paper's (β = 85 %, γ = 99.3 %); its α = 0.3 is for sums of many tasks, here `alpha` 1 leaves the
sum as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.errors import BadConfig
from adaptr.strategies.base import Operators, Weights
from adaptr.strategies.elementwise import Elementwise, add, largest, trim

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    beta: float = 0.85
    gamma: float = 0.993
    alpha: float = 1.0


class Breadcrumbs(Elementwise[Config]):
    name = "breadcrumbs"
    factor = "alpha"

    def check(self, cfg: Config) -> None:
        if not 0 <= cfg.beta < cfg.gamma <= 1:
            raise BadConfig(
                "strategy `breadcrumbs`: `beta`", got=f"{cfg.beta} and `gamma` {cfg.gamma}", want="0 ≤ β < γ ≤ 1"
            )

    def prepare(self, ops: Operators, cfg: Config) -> list[Any]:
        """The magnitudes that the kept and the outliers begin at."""
        return [(largest(op, 1 - cfg.beta), largest(op, 1 - cfg.gamma)) for op in ops]

    def block(
        self, parts: list[Tensor], weights: Weights, cfg: Config, ready: list[Any], draw: Callable[[int], Tensor]
    ) -> Tensor:
        # what reaches the lower edge, without what reaches the upper
        left = [trim(D, low).sub_(trim(D, high)) for D, (low, high) in zip(parts, ready, strict=True)]
        return add(left, [cfg.alpha * w for w in weights])
