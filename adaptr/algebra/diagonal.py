"""Diagonal: D[i, i] = s d[i], zero elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.algebra.operator import Operator, in_dtype
from adaptr.precision import at_least

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Diagonal(Operator):
    """D = scale * diag(d) of shape (out, in), with d (min(out, in),)."""

    __slots__ = ("d", "out_in")

    def __init__(self, d: Tensor, shape: tuple[int, int], scale: float = 1.0) -> None:
        self.d, self.out_in, self.scale, self.experts = d, shape, scale, False

    def scaled(self, scale: float) -> Diagonal:
        return Diagonal(self.d, self.out_in, scale)

    @property
    def portable(self) -> bool:
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        return self.out_in

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.d,)

    def rows(self, s: slice, dtype: torch.dtype | None = None) -> Tensor:
        import torch

        out, into = self.out_in
        start, stop, _ = s.indices(out)
        d = in_dtype(self.d[start:stop], dtype)
        block = d.new_zeros(stop - start, into)
        places = torch.arange(len(d), device=d.device)
        return block.index_put((places, places + start), self.scale * d)

    def product(self, x: Tensor) -> Tensor:
        return self._between(x, self.out_in[0])

    def back(self, y: Tensor) -> Tensor:
        return self._between(y, self.out_in[1])

    def _between(self, x: Tensor, wide: int) -> Tensor:
        from torch.nn.functional import pad

        n = len(self.d)
        x = at_least(x, self.d.dtype)
        return pad(self.scale * self.d.to(x.dtype) * x[..., :n], (0, wide - n))

    def _inner(self, other: Operator) -> float | None:
        if not isinstance(other, Diagonal):
            return None
        return self.scale * other.scale * float(self.d.double() @ other.d.double())
