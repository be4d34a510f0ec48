"""`Operator`: a linear change D to a weight of logical shape (*e, out, in, *k), never dense unless asked.

Of a convolution D is the matrix (out, in*k); of a stack of experts, a batch of matrices. Products take vectors or
batches of them as a linear layer does: `D @ x` is x Dᵀ for x (..., in*k), and (e, ..., in) for experts. Whatever is
computed is in fp32 or better; rows and columns are returned in the dtype asked for. Only a live layer works in half
precision, where its tensors are (`side`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, ClassVar, Self

from adaptr.algebra import ways
from adaptr.contract import View
from adaptr.contract.view import ALL
from adaptr.errors import NotPossible, ShapeError
from adaptr.precision import at_least, autocasts, wide, widest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adaptr.algebra.lowrank import LowRank
    from adaptr.algebra.sum import Sum

#: How many elements of D are dense at a time where it is read block by block: few enough in fp64 (8 MiB) that memory
#: is used again from block to block, not asked of the system anew, which costs more than the arithmetic.
BLOCK = 1 << 20


class Operator:
    """A linear change. An author supplies `shape`, `tensors`, `rows`, and what is faster than blocks of rows.

    `scale`: a number in front of it all. `experts`: the first axis counts experts, which the shape alone can't say.
    """

    __slots__ = ("experts", "scale")

    scale: float
    experts: bool
    #: Whether the elements of D are products of those of its tensors, and not sums of a few.
    products: ClassVar[bool] = False
    #: Whether a live layer makes D dense.
    dense_live: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        """(*e, out, in, *k)."""
        raise NotImplementedError

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What D is made of and gradients flow to."""
        raise NotImplementedError

    @property
    def rank(self) -> int:
        """A bound on the rank of the matrix (of each of a stack), at most its smaller side."""
        return min(self.size)

    @property
    def size(self) -> tuple[int, int]:
        """(out, in*k): the sides of the matrix, or of each matrix of a stack."""
        shape = self.shape[1:] if self.experts else self.shape
        return shape[0], math.prod(shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """What D is computed in: fp32, or wider where a tensor is."""
        return widest(*(t.dtype for t in self.tensors))

    @property
    def live_dtype(self) -> torch.dtype:
        """What a live layer computes in: the tensors' own, where D is made of them with no arithmetic before."""
        import torch

        first, *others = [t.dtype for t in self.tensors if t.is_floating_point()]
        for other in others:
            first = torch.promote_types(first, other)
        return first

    @property
    def device(self) -> torch.device:
        """Where products with D are computed."""
        return self.tensors[0].device

    @property
    def group(self) -> int:
        """For how many inputs in a row, from a multiple of it on, D is known to have one and the same column."""
        return 1

    @property
    def portable(self) -> bool:
        """Whether `exact` has the same bits on every machine. Kinds that others define say so themselves."""
        return False

    def exact(self, dtype: torch.dtype) -> Operator:
        """D for many parts of it to be read in `dtype`: with the same bits on every machine where `portable`.

        Single operations on elements have them; whatever sums is done by `adaptr.algebra.exact`.
        """
        return self

    # ------------------------------------------------------------ arithmetic

    def scaled(self, scale: float) -> Self:
        """The same tensors under another scale."""
        raise NotImplementedError

    def __mul__(self, weight: float) -> Self:
        return self if weight == 1.0 else self.scaled(self.scale * weight)

    def __rmul__(self, weight: float) -> Self:
        return self * weight

    def __neg__(self) -> Self:
        return self * -1.0

    def __add__(self, other: Operator) -> Sum:
        return ways.ways.total(self, other)

    def __sub__(self, other: Operator) -> Sum:
        return self + -other

    # ------------------------------------------------------------ parts of D

    def rows(self, s: slice, dtype: torch.dtype | None = None) -> Tensor:
        """D[s] along the first axis (experts of a stack), scale included."""
        raise NotImplementedError

    def cols(self, s: slice | Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """D[:, s] of a matrix, for a slice or for positions."""
        return self.rows(ALL, dtype)[:, s]

    def dense(self, dtype: torch.dtype | None = None) -> Tensor:
        """All of D."""
        return self.rows(ALL, dtype)

    def add_rows(self, rows: Tensor, s: slice) -> Tensor:
        """`rows` of a weight plus the same rows of D, in the dtype of `rows`."""
        return rows + self.rows(s, rows.dtype)

    def add_cols(self, cols: Tensor, s: slice) -> Tensor:
        """`cols` of a matrix plus the same columns of D, in the dtype of `cols`."""
        return cols + self.cols(s, cols.dtype)

    def blocks(self) -> Iterator[slice]:
        """Slices of the first axis that hold at most `BLOCK` elements each."""
        step = max(1, BLOCK // max(1, math.prod(self.shape[1:])))
        return (slice(i, min(i + step, self.shape[0])) for i in range(0, self.shape[0], step))

    # ------------------------------------------------------------ products

    def __matmul__(self, x: Tensor) -> Tensor:
        return self.product(at_least(x, self.dtype))

    def product(self, x: Tensor) -> Tensor:
        """x Dᵀ: (..., in*k) to (..., out), in the wider of x's dtype and that of the tensors.

        In a live layer by this name, as compilers don't know `@` of ours.
        """
        import torch

        x = at_least(x, self.live_dtype)
        if self.experts:
            return self._by_expert("e...i,eoi->e...o", x)
        return torch.cat([x @ self._matrices(s, x).mT for s in self.blocks()], dim=-1)

    def back(self, y: Tensor) -> Tensor:
        """y D, the transposed product: (..., out) to (..., in*k)."""
        y = at_least(y, self.live_dtype)
        if self.experts:
            return self._by_expert("e...o,eoi->e...i", y)
        parts: Iterator[Tensor] = (y[..., s] @ self._matrices(s, y) for s in self.blocks())
        return reduce(add, parts)  # one at a time: all of them may be more than D

    def _by_expert(self, sum_of: str, x: Tensor) -> Tensor:
        import torch

        return torch.cat([torch.einsum(sum_of, x[s], self._matrices(s, x)) for s in self.blocks()])

    def _matrices(self, s: slice, like: Tensor) -> Tensor:
        return self.rows(s, like.dtype).flatten(2 if self.experts else 1)

    # ------------------------------------------------------------ in a live layer

    def forward(self, base: View, x: Tensor, given: Tensor | None = None) -> Tensor:
        """base(x) + D x for whatever layer `base` is. `given` replaces x on the side of D (dropped-out input)."""
        if self.dense_live and given is None and len(self.shape) == 2:
            from adaptr.algebra.fused import summed

            found = summed(self, base, x)
            if found is not None:
                return found
        y: Tensor = base(x)
        with self._exactly(x):
            return y + self.side(base, x if given is None else given).to(y.dtype)

    def _exactly(self, x: Tensor) -> AbstractContextManager[Any]:
        """Without autocast where D is made of products of its tensors, which half precision does not hold."""
        import torch

        if self.products and autocasts(x.device.type):
            return torch.autocast(x.device.type, enabled=False)
        return nullcontext()

    def side(self, base: View, x: Tensor) -> Tensor:
        """D x alone, as the layer `base` would apply it."""
        import torch

        if x.is_floating_point() and len(self.shape) == 2:
            return self.product(x)
        assert base.op is not None
        if x.is_floating_point():
            x = at_least(x, self.live_dtype)
            return base.op(x, self.dense(x.dtype), None)
        places = torch.arange(x.numel(), device=x.device).view(x.shape)
        return base.op(places, self.cols(x.flatten(), self.live_dtype), None)

    # ------------------------------------------------------------ numbers

    def norm(self) -> float:
        """‖D‖, Frobenius, accumulated in fp64."""
        return math.sqrt(max(self.inner(self), 0.0))

    def inner(self, other: Operator) -> float:
        """Σ D ∘ D', in fp64: on the factors where one of the two allows it, else in blocks of rows."""
        import torch

        same_shape(self, other)
        with torch.no_grad():
            for one, two in ((self, other), (other, self)):
                found = one._inner(two)
                if found is not None:
                    return found
            pairs = ((self.rows(s, torch.float64), other.rows(s, torch.float64)) for s in self.blocks())
            return sum(float((a * b).sum()) for a, b in pairs)

    def _inner(self, other: Operator) -> float | None:
        """The inner product without anything dense, or None if this kind has no way for `other`."""
        return None

    def finite(self) -> bool:
        """Whether none of the tensors holds NaN or infinity."""
        # a sum is cheaper than a look at each
        return all(math.isfinite(float(t.sum())) or bool(t.isfinite().all()) for t in self.tensors)

    # ------------------------------------------------------------ other forms

    def low_rank(self) -> LowRank:
        """D itself as B A, exact. Raises `NotPossible` for kinds that have no such form."""
        raise NotPossible(
            f"a {type(self).__name__.lower()} delta of shape {self.shape} has no exact low-rank form",
            hint="truncate it to a rank, with the error measured",
        )

    def truncate(self, rank: int | None = None, energy: float | None = None) -> tuple[LowRank, float]:
        """The nearest D of a `rank`, or of the smallest that keeps a share `energy` of ‖D‖², and its relative error.

        The error is ‖D - D_k‖ / ‖D‖, Frobenius, over all experts of a stack. Exact for what has factors and for small
        matrices, a randomised range finder with a measured error for the rest.
        """
        return ways.ways.nearest(self, rank, energy)

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.shape}"


def same_shape(one: Operator, other: Operator) -> None:
    """Raises `ShapeError` unless both change weights of the same shape."""
    if one.shape != other.shape:
        raise ShapeError(
            f"{one!r} and {other!r} change weights of different shapes", hint="add what changes one and the same weight"
        )


def in_dtype(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """`tensor` in `dtype`, None for its own or fp32 where that is wider."""
    return wide(tensor) if dtype is None else tensor.to(dtype)


def rounded(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """What was computed in fp32 or better, in the dtype asked for."""
    return tensor if dtype is None else tensor.to(dtype)
