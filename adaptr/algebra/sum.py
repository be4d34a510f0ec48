"""Sum: D = D₁ + D₂ + ..., kept as its terms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from adaptr.algebra.operator import Operator, same_shape
from adaptr.contract import View
from adaptr.precision import wide

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adaptr.algebra.lowrank import LowRank


class Sum(Operator):
    """The sum of operators of one shape. Sums inside are flattened; a scale goes to the terms."""

    __slots__ = ("terms",)

    def __init__(self, *terms: Operator) -> None:
        found = [inner for term in terms for inner in (term.terms if isinstance(term, Sum) else (term,))]
        self.terms: tuple[Operator, ...] = tuple(found)
        for term in self.terms[1:]:
            same_shape(self.terms[0], term)
        self.scale, self.experts = 1.0, self.terms[0].experts

    def scaled(self, scale: float) -> Self:
        return type(self)(*(term * scale for term in self.terms))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.terms[0].shape

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(t for term in self.terms for t in term.tensors)

    @property
    def group(self) -> int:
        return math.gcd(*(term.group for term in self.terms))

    @property
    def portable(self) -> bool:
        return all(term.portable for term in self.terms)

    def exact(self, dtype: torch.dtype) -> Sum:
        return Sum(*(term.exact(dtype) for term in self.terms))

    @property
    def rank(self) -> int:
        return min(sum(term.rank for term in self.terms), *self.size)

    def rows(self, s: slice, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        return _total([term.rows(s, dtype) for term in self.terms])

    def cols(self, s: slice | Tensor, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        return _total([term.cols(s, dtype) for term in self.terms])

    def add_rows(self, rows: Tensor, s: slice) -> Tensor:
        for term in self.terms:
            rows = term.add_rows(rows, s)
        return rows

    def add_cols(self, cols: Tensor, s: slice) -> Tensor:
        for term in self.terms:
            cols = term.add_cols(cols, s)
        return cols

    def product(self, x: Tensor) -> Tensor:
        return _total([term.product(x) for term in self.terms])

    def back(self, y: Tensor) -> Tensor:
        return _total([term.back(y) for term in self.terms])

    def side(self, base: View, x: Tensor) -> Tensor:
        return _total([term.side(base, x) for term in self.terms])

    def _inner(self, other: Operator) -> float:
        return sum(term.inner(other) for term in self.terms)

    def low_rank(self) -> LowRank:
        """The terms' factors beside each other: rank Σ r."""
        import torch

        from adaptr.algebra.lowrank import LowRank

        found = [term.low_rank() for term in self.terms]
        axis = 1 if self.experts else 0
        B = torch.cat([wide(term.B) * term.scale for term in found], dim=axis + 1)
        return LowRank(B, torch.cat([wide(term.A) for term in found], dim=axis))


def _total(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
