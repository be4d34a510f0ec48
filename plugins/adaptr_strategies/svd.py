"""SVD: the nearest delta to Σ w D_i of a rank, or of the smallest rank that keeps a share of its energy.  Eckart and
Young 1936.

Exact where the inputs have factors: the decomposition is that of a small core, never of a dense matrix.
"""

from __future__ import annotations

from adaptr.algebra.operator import Operator
from adaptr.contract.settings import Nothing
from adaptr.strategies.base import Operators, Place, Strategy, Weights, weighted


class SVD(Strategy[Nothing]):
    name = "svd"
    linear = True
    rank_wanted = True

    def combine(self, ops: Operators, weights: Weights, cfg: Nothing, place: Place) -> Operator:
        return weighted(ops, weights)
