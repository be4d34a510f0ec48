"""Kron: D = s L ⊗ R, the operator behind LoKr and KronA. The kernel of a convolution belongs to R alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator, rounded
from adaptr.precision import at_least, wide, widest

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Kron(Operator):
    """D = scale * kron(L, R) with L (a, c) and R (b, d, *k), operators themselves: D is (a b, c d, *k)."""

    __slots__ = ("L", "R")

    products = True

    def __init__(self, L: Operator, R: Operator, scale: float = 1.0) -> None:
        self.L, self.R, self.scale, self.experts = L, R, scale, False

    def scaled(self, scale: float) -> Kron:
        return Kron(self.L, self.R, scale)

    @property
    def shape(self) -> tuple[int, ...]:
        (a, c), (b, d, *k) = self.L.shape, self.R.shape
        return (a * b, c * d, *k)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.L.tensors + self.R.tensors

    @property
    def live_dtype(self) -> torch.dtype:
        return self.dtype  # its elements are products, which half precision does not hold

    @property
    def portable(self) -> bool:
        return self.L.portable and self.R.portable

    def exact(self, dtype: torch.dtype) -> Kron:
        from adaptr.algebra.dense import Dense

        return Kron(self.L.exact(dtype), Dense(self.R.exact(dtype).dense(dtype)), self.scale)

    @property
    def rank(self) -> int:
        return min(self.L.rank * self.R.rank, *self.size)

    def rows(self, s: slice, dtype: torch.dtype | None = None) -> Tensor:
        b, first = self.R.shape[0], range(*s.indices(self.shape[0]))
        outer = slice(first.start // b, -(-first.stop // b))
        work = widest(dtype or self.dtype)
        L, R = self.L.rows(outer, work), self.R.dense(work)
        # (a', b, c, d*k): whole blocks of b rows, cut to the rows asked for
        D = L[:, None, :, None] * R.flatten(1)[None, :, None, :]
        D = D.reshape(-1, *self.shape[1:])[first.start - outer.start * b : first.stop - outer.start * b]
        return rounded(self.scale * D, dtype)

    def cols(self, s: slice | Tensor, dtype: torch.dtype | None = None) -> Tensor:
        import torch

        d, device = self.R.shape[1], self.tensors[0].device
        places = torch.arange(self.shape[1], device=device)[s] if isinstance(s, slice) else s
        work = widest(dtype or self.dtype)
        L, R = self.L.cols(places // d, work), self.R.cols(places % d, work)
        return rounded(self.scale * (L[:, None] * R[None]).flatten(0, 1), dtype)

    def product(self, x: Tensor) -> Tensor:
        """x as a matrix X (c, d*k): L X Rᵀ."""
        x = at_least(x, self.dtype)
        X = x.reshape(*x.shape[:-1], self.L.shape[1], -1)
        return self.scale * self.L.product(self.R.product(X).mT).mT.flatten(-2)

    def back(self, y: Tensor) -> Tensor:
        y = at_least(y, self.dtype)
        Y = y.reshape(*y.shape[:-1], self.L.shape[0], -1)
        return self.scale * self.L.back(self.R.back(Y).mT).mT.flatten(-2)

    def _inner(self, other: Operator) -> float | None:
        if not isinstance(other, Kron) or self.L.shape != other.L.shape or self.R.shape != other.R.shape:
            return None
        return self.scale * other.scale * self.L.inner(other.L) * self.R.inner(other.R)

    def low_rank(self) -> LowRank:
        """(B₁ ⊗ B₂)(A₁ ⊗ A₂), of rank r₁ r₂."""
        import torch

        (B1, A1), (B2, A2) = _factors(self.L), _factors(self.R)
        A = torch.kron(A1, A2.flatten(1)).view(-1, *self.shape[1:])
        return LowRank(torch.kron(B1, B2).view(self.shape[0], -1, *(1 for _ in self.shape[2:])), A, self.scale)


def _factors(op: Operator) -> tuple[Tensor, Tensor]:
    """`op` = B A with the scale in B; a dense one is multiplied by the identity on its smaller side."""
    import torch

    if isinstance(op, LowRank):
        return wide(op.B).flatten(1) * op.scale, wide(op.A)
    D = op.dense()
    out, into = op.size
    if out <= into:
        return torch.eye(out, dtype=D.dtype, device=D.device), D
    return D.flatten(1), torch.eye(into, dtype=D.dtype, device=D.device)
