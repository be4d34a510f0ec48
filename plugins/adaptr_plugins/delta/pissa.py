"""PiSSA: W' = W + s (B A - B0 A0), s B0 A0 = U_r S_r V_rᵀ the largest singular triplets of W.  Meng et al. 2024,
arXiv:2404.02948.

What learns are the principal directions of the weight, and not a change beside it. s is alpha / r, 1 as in the paper
unless `alpha` is said; the singular values are shared evenly by both factors, divided by s. `rounds`: of subspace
iteration instead of the exact decomposition, for large layers (4 is usual). Where it begins is stored, so that it is
right on the base itself, as a LoRA of rank 2 r.

Choose it where LoRA begins too slowly: it trains the weight's principal directions from the first step on. Its file has
twice the rank, as where it begins must be stored, and a rate that suits LoRA may be too high, as it changes what the
base relies on most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr_plugins.delta import _begun

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config(_begun.Config):
    rounds: int = 0


class PiSSA(_begun.Begun[Config]):
    name = "pissa"

    def first(self, W: Tensor, cfg: Config) -> tuple[Tensor, Tensor]:
        return _begun.halved(*_begun.leading(W, cfg.r, cfg.rounds), self.scale(cfg))
