"""Matrix products and sums whose bits are the same on every machine.

A sum of floats depends on its order, and so on library, processor, threads and fused operations. Here the factors are
rounded to grids so coarse that every partial sum fits into the 53 bits of fp64: then any order gives the same. With
rank r the two grids have 53 - log2(r) bits together, counted from the largest entry of a row of the left factor and of
a column of the right one: 24 and 25 bits at r = 16, as many as fp32 has. For fp64 each factor is the sum of several
such pieces (Ozaki et al. 2012, doi:10.1007/s11075-011-9478-1).
"""

# torch is imported at module level here: this file is only imported where there are tensors.
from __future__ import annotations

import math

import torch
from torch import Tensor

from adaptr.kernels import fastest

MANTISSA = 53
#: Pieces of a factor by what the product is for.
PIECES = {torch.float32: 1, torch.float64: 3}
#: Entries of a product that are in fp64 at a time.
BLOCK = 1 << 18
#: By how many powers of two a direction may lie below another before a second piece holds what its grid does not.
SPAN = 8

Pieces = list[Tensor]


class Product:
    """B A of matrices, or of stacks of them, (..., out, r) and (..., r, in), ready for parts of it to be computed.

    Powers of two are moved between the factors first, so that no direction is far below another on both grids.
    """

    __slots__ = ("A", "B", "dtype")

    def __init__(self, B: Tensor, A: Tensor, dtype: torch.dtype) -> None:
        self.dtype = dtype
        B, A = B.double(), A.double()
        if not B.numel() or not A.numel():
            self.B, self.A = [B], [A]
            return
        B, A, span = _balanced(B, A)
        left, right = bits(A.shape[-2])
        count = max(PIECES[dtype], 2 if span > SPAN else 1)
        self.B, self.A = _pieces(B, left, -1, count), _pieces(A, right, -2, count)

    @classmethod
    def of(cls, B: Pieces, A: Pieces, dtype: torch.dtype) -> Product:
        """From factors that are on their grids."""
        made = cls.__new__(cls)
        made.B, made.A, made.dtype = B, A, dtype
        return made

    def rows(self, s: slice) -> Tensor:
        """Rows `s` of the product; of a stack, its matrices `s`."""
        stack = self.B[0].ndim > 2
        return self.of([B[s] for B in self.B], [A[s] for A in self.A] if stack else self.A, self.dtype).whole()

    def whole(self) -> Tensor:
        """All of it, in `dtype`, rounded once."""
        return self._compiled() if self._alone() else self._by_library()

    def _alone(self) -> bool:
        """Whether there is one product to make, by one thread: a library has more to offer elsewhere."""
        one = len(self.B) == 1 and self.B[0].ndim == 2 and self.dtype is torch.float32
        return one and self.B[0].device.type == "cpu" and torch.get_num_threads() == 1

    def _compiled(self) -> Tensor:
        found = fastest().product(self.B[0].detach().numpy(), self.A[0].detach().numpy())
        return self._by_library() if found is None else torch.from_numpy(found)

    def _by_library(self) -> Tensor:
        height, width = self.B[0].shape[-2], self.A[0].shape[-1]
        step = max(1, BLOCK // max(1, width * math.prod(self.B[0].shape[:-2])))
        if step >= height:
            return _product(self.B, self.A).to(self.dtype)
        out = torch.empty(*self.B[0].shape[:-2], height, width, dtype=self.dtype)
        for i in range(0, height, step):
            out[..., i : i + step, :] = _product([B[..., i : i + step, :] for B in self.B], self.A)
        return out


def right(A: Tensor, dtype: torch.dtype) -> Pieces:
    """A factor (..., r, in) of many products, ready for `times`."""
    return _pieces(A.double(), bits(A.shape[-2])[1], -2, PIECES[dtype])


def times(X: Tensor, A: Pieces, dtype: torch.dtype) -> Tensor:
    """X A in `dtype`, rounded once, with X (..., out, r)."""
    return Product.of(_pieces(X.double(), bits(X.shape[-1])[0], -1, len(A)), A, dtype).whole()


def bits(rank: int) -> tuple[int, int]:
    """How many bits an entry of the left and of the right factor may have."""
    total = MANTISSA - max(rank - 1, 0).bit_length()
    return total // 2, total - total // 2


def _product(B: Pieces, A: Pieces) -> Tensor:
    """The products of the pieces, the smallest first; those below the last piece of a factor are left out."""
    count = len(B)
    pairs = [(i, order - i) for order in reversed(range(count)) for i in range(order + 1)]
    total = B[pairs[0][0]] @ A[pairs[0][1]]
    for i, j in pairs[1:]:
        total += B[i] @ A[j]
    return total


def _balanced(B: Tensor, A: Tensor) -> tuple[Tensor, Tensor, int]:
    """The same product with columns of B and rows of A about as large, and how many powers of two they still span."""
    left, right = _exponent(B.abs().amax(-2)), _exponent(A.abs().amax(-1))
    live = (B != 0).any(-2) & (A != 0).any(-1)
    sizes, far = left + right, 1 << 12
    span = sizes.masked_fill(~live, -far).amax(-1) - sizes.masked_fill(~live, far).amin(-1)
    shift = torch.where(live, (right - left) // 2, 0)
    return B * _power(shift)[..., None, :], A * _power(-shift)[..., :, None], int(span.max()) // 2


def _pieces(X: Tensor, count: int, dim: int, pieces: int) -> Pieces:
    """X (fp64) as a sum: each piece has `count` bits below the largest magnitude along `dim` of what is left."""
    found = []
    for _ in range(pieces):
        found.append(_on_grid(X, count, dim))
        X = X - found[-1] if len(found) < pieces else X
    return found


def _on_grid(X: Tensor, count: int, dim: int) -> Tensor:
    # adding and taking off a large number of the right size rounds to a grid: half to even, on every machine
    large = 1.5 * _power(_exponent(X.abs().amax(dim, keepdim=True)) + (MANTISSA - 1 - count))
    return X.add(large).sub_(large)


def _exponent(X: Tensor) -> Tensor:
    """e with |x| < 2^e."""
    return torch.frexp(X).exponent.long()


def _power(exponent: Tensor) -> Tensor:
    """2^e in fp64, from its bits: functions of libraries may be off by one."""
    return (exponent.clamp(-1022, 1023) + 1023).bitwise_left_shift(MANTISSA - 1).view(torch.float64)


def norms(V: Tensor) -> Tensor:
    """‖V‖ of each row, in fp64: squares are summed in halves, always in the same order."""
    squares = V.flatten(1).double().square()
    while squares.shape[1] > 1:
        half = squares.shape[1] // 2
        odd = squares[:, 2 * half :]
        squares = squares[:, :half] + squares[:, half : 2 * half]
        squares[:, :1] += odd.sum(1, keepdim=True)
    return squares.sum(1).sqrt()
