"""Slerp: D = sin((1-t)Ω)/sin Ω D_0 + sin(tΩ)/sin Ω D_1, Ω the angle between the two.  Shoemake 1985.

t = w_1 / (w_0 + w_1). A combination of the two deltas, so exact on factors; where they point the same way it is the
straight line, where they point in opposite ways there is no way between them. A delta of zero has no direction: where
one input changes nothing it is the straight line too, 1-t of the other.
"""

from __future__ import annotations

import math

from adaptr.contract.settings import Nothing
from adaptr.errors import NotPossible
from adaptr.strategies.base import Combination, Operators, Place, Weights

#: Angles at which the way between two directions is a straight line to fp64, and at which fp32 no longer tells it.
SAME, OPPOSITE = 1e-6, 1e-3


class Slerp(Combination[Nothing]):
    name = "slerp"
    least = most = 2
    scale_free = diluted = True

    def coefficients(self, ops: Operators, weights: Weights, cfg: Nothing, place: Place) -> Weights:
        shares = self.proportions(weights, [weight for _, weight in place.absent])
        if len(ops) == 1:
            return shares
        sizes = ops[0].norm() * ops[1].norm()
        cosine = ops[0].inner(ops[1]) / sizes if sizes else 1.0
        angle = math.acos(max(-1.0, min(1.0, cosine)))
        if angle < SAME:
            return shares
        if math.pi - angle < OPPOSITE:
            raise NotPossible(
                f"`slerp`: the two deltas at `{place.path}` point in opposite ways, and no way between them is "
                "the shortest",
                hint="use `linear`",
            )
        return [math.sin(share * angle) / math.sin(angle) for share in shares]
