"""Slerp: D = sin((1-t)Ω)/sin Ω D_0 + sin(tΩ)/sin Ω D_1, Ω the angle between the two.  Shoemake 1985.

t = w_1 / (w_0 + w_1). A combination of the two deltas, so exact on factors; where they point the same way it is the
straight line.
"""

from __future__ import annotations

import math
from typing import Any

from adaptr.algebra.operator import Operator
from adaptr.errors import UsageError
from adaptr.strategies.base import Operators, Place, Strategy, Weights, beside, weighted


class Slerp(Strategy):
    name = "slerp"
    least = most = 2

    def combine(self, ops: Operators, weights: Weights, cfg: Any, place: Place) -> Operator:
        if len(ops) == 1:  # the other does not change this target: it is zero there, without a direction
            return beside([weighted(ops, weights)])
        if min(weights) < 0 or not sum(weights):
            raise UsageError(f"`slerp` goes from one delta to the other: weights {list(weights)}, wanted none negative")
        t = weights[1] / sum(weights)
        sizes = ops[0].norm() * ops[1].norm()
        cosine = ops[0].inner(ops[1]) / sizes if sizes else 1.0
        angle = math.acos(max(-1.0, min(1.0, cosine)))
        if math.sin(angle) < 1e-6:
            return beside([weighted(ops, [1 - t, t])])
        return beside(
            [weighted(ops, [math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)])]
        )
