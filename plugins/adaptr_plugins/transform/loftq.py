"""LoftQ: W' = Q(W - s B0 A0) + s B A, B A beginning as U_r S_r V_rᵀ of what Q left of W.  Li et al. 2023,
arXiv:2310.08659.

By turns Q of W without the factors, and factors of W without Q, `times` times: 5 in the paper (not confirmed), 1 in
PEFT, which is Q(W). Of all turns the one nearest to W is taken, as later ones can be further away. B0 and A0 are what
was taken out before the last Q, zero at the first. The factors are divided by s, so that fresh it is as near to W as
they come; in PEFT they are not. Four bits of NF4 alone.

Choose it where the base will be in four bits and training is short: what NF4 loses is in the factors from the start.
It saves no memory in training here, as it is computed over the base as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr_plugins.transform import _residual

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config(_residual.Config):
    times: int = 1


class LoftQ(_residual.Residual[Config]):
    name = "loftq"

    def first(self, W: Tensor, cfg: Config) -> _residual.Factors:
        B0, A0 = W.new_zeros(W.shape[0], cfg.r), W.new_zeros(cfg.r, W.shape[1])
        found: list[tuple[float, _residual.Factors]] = []
        for _ in range(cfg.times):
            left = W - self.packed(W, B0, A0, cfg)
            B, A = self.split(left, cfg)
            found.append((float((left - self.scale(cfg) * B @ A).norm()), (B, A, B0, A0)))
            B0, A0 = B, A
        return min(found, key=lambda one: one[0])[1]
