"""Hadamard: D = s L ∘ R of two low-rank operators, behind LoHa. Its rank is at most r₁ r₂."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator, rounded, same_shape
from adaptr.contract import View
from adaptr.precision import wide, widest

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Hadamard(Operator):
    """D = scale * L ∘ R, element by element.

    Where r₁ r₂ is small against the sides, all is done on the exact low-rank form; else in blocks of rows. Its elements
    are products of four small numbers, so they are made in fp32 or better whatever the factors are in.
    """

    __slots__ = ("L", "R")

    products = True

    def __init__(self, L: LowRank, R: LowRank, scale: float = 1.0) -> None:
        same_shape(L, R)
        self.L, self.R, self.scale, self.experts = L, R, scale, L.experts

    def scaled(self, scale: float) -> Hadamard:
        return Hadamard(self.L, self.R, scale)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.L.shape

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.L.tensors + self.R.tensors

    @property
    def live_dtype(self) -> torch.dtype:
        return self.dtype

    @property
    def portable(self) -> bool:
        return self.L.portable and self.R.portable

    def exact(self, dtype: torch.dtype) -> Hadamard:
        return Hadamard(self.L.exact(dtype), self.R.exact(dtype), self.scale)

    @property
    def rank(self) -> int:
        return min(self._products, *self.size)

    @property
    def _products(self) -> int:
        axis = 1 if self.experts else 0
        return self.L.A.shape[axis] * self.R.A.shape[axis]

    @property
    def _thin(self) -> bool:
        """Whether the low-rank form costs less than the dense one."""
        out, into = self.size
        return self._products * (out + into) < out * into

    def rows(self, s: slice, dtype: torch.dtype | None = None) -> Tensor:
        work = widest(dtype or self.dtype)
        return rounded(self.scale * self.L.rows(s, work) * self.R.rows(s, work), dtype)

    def cols(self, s: slice | Tensor, dtype: torch.dtype | None = None) -> Tensor:
        work = widest(dtype or self.dtype)
        return rounded(self.scale * self.L.cols(s, work) * self.R.cols(s, work), dtype)

    def product(self, x: Tensor) -> Tensor:
        return self.low_rank().product(x) if self._thin else super().product(x)

    def back(self, y: Tensor) -> Tensor:
        return self.low_rank().back(y) if self._thin else super().back(y)

    def side(self, base: View, x: Tensor) -> Tensor:
        return self.low_rank().side(base, x) if self._thin else super().side(base, x)

    def _inner(self, other: Operator) -> float | None:
        return self.low_rank()._inner(other) if self._thin else None

    def low_rank(self) -> LowRank:
        """Row by row the Khatri-Rao product: B'[o, (i, j)] = B₁[o, i] B₂[o, j], A'[(i, j)] = A₁[i] ∘ A₂[j]."""
        axis = 1 if self.experts else 0
        B1, A1, B2, A2 = map(wide, (self.L.B, self.L.A, self.R.B, self.R.A))
        A = (A1.unsqueeze(axis + 1) * A2.unsqueeze(axis)).flatten(axis, axis + 1)
        B = (B1.unsqueeze(axis + 2) * B2.unsqueeze(axis + 1)).flatten(axis + 1, axis + 2)
        return LowRank(B, A, self.scale * self.L.scale * self.R.scale)
