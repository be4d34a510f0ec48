"""What any operator can become, made of kinds that are operators themselves: named by the package, so that no file
depends on those above it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from adaptr.algebra.lowrank import LowRank
    from adaptr.algebra.operator import Operator
    from adaptr.algebra.sum import Sum


class Ways(Protocol):
    """What operators become that are of kinds above `Operator`."""

    def total(self, *terms: Operator) -> Sum:
        """The sum of operators, kept as its terms."""

    def nearest(self, op: Operator, rank: int | None, energy: float | None, /) -> tuple[LowRank, float]:
        """See `Operator.truncate`."""

    def portable(self, op: LowRank, dtype: torch.dtype, /) -> LowRank:
        """Factors with the same bits on every machine, to be read in `dtype`."""


#: `adaptr/algebra/__init__.py` says which.
ways: Ways
