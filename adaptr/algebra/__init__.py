"""Deltas as operators: shapes, products and norms without forming the dense matrix.

The package says of which kinds the sum, the nearest and the exact form of any operator are (`adaptr.algebra.ways`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.algebra import ways

if TYPE_CHECKING:
    import torch

    from adaptr.algebra.lowrank import LowRank
    from adaptr.algebra.operator import Operator
    from adaptr.algebra.portable import Portable
    from adaptr.algebra.sum import Sum


class _Ways:
    """Each imported when it is asked for."""

    def total(self, *terms: Operator) -> Sum:
        from adaptr.algebra.sum import Sum

        return Sum(*terms)

    def nearest(self, op: Operator, rank: int | None, energy: float | None) -> tuple[LowRank, float]:
        from adaptr.algebra.truncate import truncated

        return truncated(op, rank, energy)[:2]

    def portable(self, op: LowRank, dtype: torch.dtype) -> Portable:
        from adaptr.algebra.portable import Portable

        return Portable(op, dtype)


ways.ways = _Ways()
