"""Shrink: D = s Σ w D_i, the sum at a share of its strength.

Invented for this example; no paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.strategies.core import InCore, total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Shrink(InCore):
    name = "shrink"
    factor = "s"

    @dataclass(frozen=True)
    class Config:
        s: float = 0.5

    def core(self, cores: list[Tensor], weights: Sequence[float], cfg: Any) -> Tensor:
        made: Tensor = cfg.s * total(cores, weights)
        return made
