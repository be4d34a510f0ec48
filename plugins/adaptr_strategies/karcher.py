"""Karcher mean: the direction with the least squared angles to all D_i, at their mean size.  Karcher 1977.

Every step stays in the span of the deltas, so it is computed on their inner products alone and exact on factors. Only
where directions cancel there is no mean. Weights are shares, also of what changes nothing: that has no direction, and
takes its share from the size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.errors import NotPossible
from adaptr.strategies.base import Combination, Operators, Place, Weights

if TYPE_CHECKING:
    from torch import Tensor

#: Of directions: the length of a mean, and the angle from the opposite, from which on fp32 no longer tells where it is.
CANCELLED = 1e-3


@dataclass(frozen=True)
class Config:
    steps: int = 100
    tolerance: float = 1e-12


class Karcher(Combination[Config]):
    name = "karcher"
    scale_free = diluted = True

    def coefficients(self, ops: Operators, weights: Weights, cfg: Config, place: Place) -> Weights:
        import torch

        shares = self.proportions(weights, [weight for _, weight in place.absent])
        gram = torch.tensor([[a.inner(b) for b in ops] for a in ops], dtype=torch.float64)
        sizes = gram.diagonal().sqrt()
        there = (sizes > 0).double()
        share = torch.tensor(shares, dtype=torch.float64) * there
        if not share.sum():
            return [0.0] * len(ops)
        unit = 1 / sizes.where(sizes > 0, 1.0)
        c = _mean(gram * unit[:, None] * unit[None, :], share / share.sum(), cfg)
        if c is None:
            raise NotPossible(
                f"`karcher`: the deltas at `{place.path}` point in ways that cancel, and no direction is their mean",
                hint="use `linear`",
            )
        found: list[float] = (c * unit * (share * sizes).sum()).tolist()
        return found


def _mean(cosines: Tensor, share: Tensor, cfg: Config) -> Tensor | None:
    """Coefficients of the mean direction over unit deltas with these cosines (n, n), None where there is none."""
    length = math.sqrt(max(float(share @ cosines @ share), 0.0))
    if length < CANCELLED:
        return None
    c = share / length
    for _ in range(cfg.steps):
        near = (cosines @ c).clamp(-1, 1)
        angle = near.arccos()
        if bool((angle.where(share > 0, 0.0) > math.pi - CANCELLED).any()):
            return None  # from c all ways lead to the opposite delta
        # the tangent at c towards each delta, of the length of the angle: θ / sin θ (D_i - cos θ c)
        pull = share * (angle / angle.sin().where(angle > 1e-9, 1.0)).where(angle > 1e-9, 1.0)
        step = pull - c * (pull * near).sum()
        length = math.sqrt(max(float(step @ cosines @ step), 0.0))
        if length < cfg.tolerance:
            break
        c = c * math.cos(length) + step * (math.sin(length) / length)
        c = c / math.sqrt(float(c @ cosines @ c))
    return c
