"""Iso-C: D = α σ̄ U Vᵀ of the sum Σ w D_i = U Σ Vᵀ, σ̄ the mean singular value: one strength in all directions.
Marczak et al. 2025, arXiv:2502.04959.

The mean is over the directions that the sum has: of low-rank deltas those of their span, of full ones all, as in the
paper. `alpha` is searched on held-out data there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.strategies.base import Weights
from adaptr.strategies.core import InCore, spectrum, total

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    alpha: float = 1.0


class IsoC(InCore[Config]):
    name = "iso-c"
    jumps = "every direction of the sum has the same strength, however small it is there"
    factor = "alpha"

    def core(self, cores: list[Tensor], weights: Weights, cfg: Config) -> Tensor:
        U, S, V = spectrum(total(cores, weights))
        return cfg.alpha * S.sum() / max(len(S), 1) * (U @ V)
