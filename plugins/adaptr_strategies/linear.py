"""Linear: D = Σ w D_i, exact; low-rank deltas stay low-rank, their factors side by side.

What averaging the factors A and B apart is taken for, without its cross terms B_i A_j.
"""

from __future__ import annotations

from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.contract.settings import Nothing
from adaptr.strategies.base import Operators, Place, Strategy, Weights, beside, weighted


class Linear(Strategy[Nothing]):
    name = "linear"
    linear = True

    def combine(self, ops: Operators, weights: Weights, cfg: Nothing, place: Place) -> Operator:
        """Where the ranks add up to more than the sides have, what is superfluous is taken off, exactly."""
        total = beside([weighted(ops, weights)])
        superfluous = isinstance(total, LowRank) and total.rank == min(total.size)
        return total.truncate(total.rank)[0] if superfluous else total
