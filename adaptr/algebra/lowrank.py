"""LowRank: D = s B A, the operator behind LoRA and everything that converts to it exactly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaptr.algebra import ways
from adaptr.algebra.operator import Operator, in_dtype, rounded
from adaptr.contract import View
from adaptr.precision import at_least, wide, widest

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class LowRank(Operator):
    """D = scale * B A, with A (*e, r, in, *k) and B (*e, out, r, *1). Never dense unless asked.

    With a kernel, D is the convolution that applies A with the layer's geometry and B point by point; with experts, one
    product for each.
    """

    __slots__ = ("A", "B")

    def __init__(self, B: Tensor, A: Tensor, scale: float = 1.0) -> None:
        self.B, self.A, self.scale = B, A, scale
        self.experts = A.ndim == 3 and is_experts(A, B)

    @classmethod
    def of(cls, B: Tensor, A: Tensor, shape: tuple[int, ...], experts: bool = False) -> LowRank:
        """From matrices (*e, out, r) and (*e, r, in*k) to factors of a weight of this shape."""
        into, ones = (shape[2:], 0) if experts else (shape[1:], len(shape) - 2)
        made = cls(B.view(*B.shape, *(1 for _ in range(ones))), A.reshape(*A.shape[:-1], *into))
        made.experts = experts
        return made

    def scaled(self, scale: float) -> LowRank:
        made = LowRank(self.B, self.A, scale)
        made.experts = self.experts
        return made

    @property
    def shape(self) -> tuple[int, ...]:
        if self.experts:
            return (*self.B.shape[:2], self.A.shape[2])
        return (self.B.shape[0], *self.A.shape[1:])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.A, self.B)

    @property
    def rank(self) -> int:
        return min(self.A.shape[1 if self.experts else 0], *self.size)

    def factors(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """(B, A) as matrices (*e, out, r) and (*e, r, in*k), without the scale."""
        start = 2 if self.experts else 1
        return in_dtype(self.B.flatten(start), dtype), in_dtype(self.A.flatten(start), dtype)

    @property
    def group(self) -> int:
        """As far as A's columns tell."""
        if self.A.ndim != 2:
            return 1
        changes = (self.A[:, 1:] != self.A[:, :-1]).any(0).nonzero() + 1
        return math.gcd(self.A.shape[1], *changes.flatten().tolist())

    @property
    def portable(self) -> bool:
        return True

    def exact(self, dtype: torch.dtype) -> LowRank:
        return ways.ways.portable(self, dtype)

    # ------------------------------------------------------------ parts of D

    def rows(self, s: slice, dtype: torch.dtype | None = None) -> Tensor:
        work = widest(dtype or self.dtype)
        B, A = self.B.to(work), self.A.to(work)
        return rounded(self._product(B[s], A[s] if self.experts else A, self.experts), dtype)

    def cols(self, s: slice | Tensor, dtype: torch.dtype | None = None) -> Tensor:
        work = widest(dtype or self.dtype)
        return rounded(self._product(self.B.to(work), self.A[:, s].to(work), experts=False), dtype)

    def add_rows(self, rows: Tensor, s: slice) -> Tensor:
        import torch

        if self.A.ndim == 2:
            B, A = self.B[s].to(rows.dtype), self.A.to(rows.dtype)
            return torch.addmm(rows, B, A, alpha=self.scale)
        if is_experts(self.A, self.B, rows):
            return torch.baddbmm(rows, self.B[s].to(rows.dtype), self.A[s].to(rows.dtype), alpha=self.scale)
        B, A = at_least(self.B[s], rows.dtype), at_least(self.A, rows.dtype)
        return rows + self._product(B, A, experts=False).to(rows.dtype)

    def add_cols(self, cols: Tensor, s: slice) -> Tensor:
        return LowRank(self.B, self.A[:, s], self.scale).add_rows(cols, slice(None))

    def _product(self, B: Tensor, A: Tensor, experts: bool) -> Tensor:
        """s B A in fp32 or better, the scale on the factor, where it costs less."""
        left, right = (wide(B), wide(A)) if experts else (wide(B).flatten(1), wide(A).flatten(1))
        product = self._times(left) @ right
        return product if experts else product.view(-1, *A.shape[1:])

    def _times(self, tensor: Tensor) -> Tensor:
        return tensor if self.scale == 1.0 else self.scale * tensor

    # ------------------------------------------------------------ products and numbers

    def product(self, x: Tensor) -> Tensor:
        x = at_least(x, self.live_dtype)
        B, A = self.factors(x.dtype)
        return self.scale * _through(_through(x, A), B)

    def back(self, y: Tensor) -> Tensor:
        y = at_least(y, self.live_dtype)
        B, A = self.factors(y.dtype)
        return self.scale * _through(_through(y, B.mT), A.mT)

    def _inner(self, other: Operator) -> float:
        """s Σ (D' Aᵀ) ∘ B."""
        import torch

        if isinstance(other, LowRank):
            (B, A), (B2, A2) = self.factors(torch.float64), other.factors(torch.float64)
            return self.scale * other.scale * float(((A2 @ A.mT) * (B2.mT @ B)).sum())
        B, A = self.factors(torch.float64)
        return self.scale * float((other.product(A) * B.mT).sum())

    def low_rank(self) -> LowRank:
        return self

    # ------------------------------------------------------------ in a live layer

    def forward(self, base: View, x: Tensor, given: Tensor | None = None) -> Tensor:
        if self.A.ndim != 2 or not x.is_floating_point():
            return super().forward(base, x, given)
        # not behind a cache: compilers trace through caches and warn
        from adaptr.algebra.fused import forward

        return forward(self, base, x, given)

    def side(self, base: View, x: Tensor) -> Tensor:
        """On look-up tables and convolutions A takes the layer's place, B follows point by point."""
        from torch.nn.functional import linear

        assert base.op is not None or self.A.ndim == 2
        if not x.is_floating_point():
            return self.scale * (base.op(x, self.A, None) @ self.B.t())  # type: ignore[misc]
        x = at_least(x, self.live_dtype)
        A, B = self.A.to(x.dtype), self.B.to(x.dtype)
        if A.ndim == 2:
            return self.scale * linear(linear(x, A), B)
        channels = base.axis  # counted from the end, as a convolution's input may have no batch
        if A.shape[1] != x.shape[channels]:  # grouped: D has the layer's shape, A has not
            return base.op(x, self._product(B, A, experts=False).to(x.dtype), None)  # type: ignore[misc]
        hidden = base.op(x, A, None)  # type: ignore[misc]
        out: Tensor = B.flatten(1) @ hidden.flatten(channels + 1)
        return self.scale * out.view(*out.shape[:-1], *hidden.shape[channels + 1 :])


def _through(x: Tensor, W: Tensor) -> Tensor:
    """x Wᵀ, of each expert where W is a stack."""
    import torch

    return x @ W.mT if W.ndim == 2 else torch.einsum("e...i,eoi->e...o", x, W)


def is_experts(A: Tensor, B: Tensor, W: Tensor | None = None) -> bool:
    """Whether the factors are stacks (e, r, in) and (e, out, r), not those of a 1-d convolution (r, in, k) and (out,
    r, 1).

    Where both fit, the weight's own shape (e, out, in) or (out, in, k) tells.
    """
    fits = A.ndim == 3 and B.ndim == 3 and B.shape[0] == A.shape[0] and B.shape[2] == A.shape[1]
    return fits and (W is None or W.shape[1] == B.shape[1])
