"""Cat: D = [B_1 ... B_n] [w_1 A_1; ...; w_n A_n], the factors side by side, of rank Σ r.  Prabhakar et al. 2024,
arXiv:2410.13025.

The same delta as `linear`; every factor is there as it was, so that parts can be told apart again.
"""

from __future__ import annotations

from adaptr.algebra.operator import Operator
from adaptr.contract.settings import Nothing
from adaptr.strategies.base import Operators, Place, Strategy, Weights, factored, weighted


class Cat(Strategy[Nothing]):
    name = "cat"
    linear = True

    def combine(self, ops: Operators, weights: Weights, cfg: Nothing, place: Place) -> Operator:
        return weighted([factored(op) for op in ops], weights).low_rank()
