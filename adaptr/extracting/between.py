"""What lies between two stored tensors, read from their files whenever it is wanted: a block of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptr.algebra.operator import Operator, in_dtype
from adaptr.bulk.blocks import working
from adaptr.checkpoint.reading import every_row, reading
from adaptr.checkpoint.stored import Stored
from adaptr.checkpoint.stream import Rows
from adaptr.precision import at_least

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Between(Operator):
    """D = after - before in fp32 (fp64 for fp64), of the shape that they are stored in.

    A decomposition reads both files a dozen times, which costs less than holding D: its products are the work. They are
    put in place block by block: parts kept till the end would lie in the memory that blocks leave, and the next would
    find no room there.
    """

    __slots__ = ("_after", "_before", "_none", "_shape")

    def __init__(self, before: Rows, after: Rows, shape: tuple[int, ...], experts: bool) -> None:
        """Both by rows of the matrix, or of the matrices of a stack, which lie one below the other."""
        import torch

        self._before, self._after = before, after
        self._none = torch.empty(0, dtype=working(after.dtype))
        self._shape, self.scale, self.experts = shape, 1.0, experts

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Of D's dtype and place; D itself is nowhere."""
        return (self._none,)

    def rows(self, s: slice, dtype: torch.dtype | None = None) -> Tensor:
        start, stop, _ = s.indices(self.shape[0])
        height = self.size[0] if self.experts else 1
        return self._read(slice(start * height, stop * height), dtype).reshape(-1, *self.shape[1:])

    def cols(self, s: slice | Tensor, dtype: torch.dtype | None = None) -> Tensor:
        import torch

        count = len(range(self.size[1])[s]) if isinstance(s, slice) else s.numel()
        found = torch.empty((self.size[0], count), dtype=dtype or self.dtype)
        for b in self.blocks():
            found[b] = self.rows(b, dtype)[:, s]
        return found

    def blocks(self) -> Iterator[slice]:
        """Those of reading: each thread has a few at a time, in fp32 and in fp64."""
        return super().blocks() if self.experts else iter(self._after.blocks())

    def product(self, x: Tensor) -> Tensor:
        import torch

        x = at_least(x, self.live_dtype)
        found = torch.empty((*x.shape[:-1], self.size[0]), dtype=x.dtype)
        for at, s, D in self._parts(x.dtype):
            found[(*at, s)] = x[at] @ D.mT
        return found

    def back(self, y: Tensor) -> Tensor:
        import torch

        y = at_least(y, self.live_dtype)
        found = torch.zeros((*y.shape[:-1], self.size[1]), dtype=y.dtype)
        for at, s, D in self._parts(y.dtype):
            found[at] += y[(*at, s)] @ D
        return found

    def norm(self) -> float:
        import torch

        flat = (D.flatten() for _, _, D in self._parts(torch.float64))
        return math.sqrt(sum(float(part @ part) for part in flat))

    def _parts(self, dtype: torch.dtype) -> Iterator[tuple[tuple[Any, ...], slice, Tensor]]:
        """Each block of rows of each matrix: where its vectors are in a batch, which rows, and the rows of D."""
        step, out = self._after.blocks()[0].stop, self.size[0]
        for e in range(self.shape[0] if self.experts else 1):
            for i in range(0, out, step):
                s = slice(i, min(i + step, out))
                D = self._read(slice(e * out + s.start, e * out + s.stop), dtype).flatten(1)
                yield ((e, ...) if self.experts else (...,)), s, D

    def _read(self, s: slice, dtype: torch.dtype | None) -> Tensor:
        new, old = (rows.read(s).to(self._none.dtype) for rows in (self._after, self._before))
        return in_dtype(new - old, dtype)


@contextmanager
def between(before: Stored, after: Stored, experts: bool) -> Iterator[Between]:
    """after - before while both files are open. `experts`: the first axis counts experts."""
    one, two = (_flat(stored) if experts else stored for stored in (before, after))
    with reading(one) as old, reading(two) as new:
        yield Between(old(every_row(one)), new(every_row(two)), after.entry.shape, experts)


def _flat(stored: Stored) -> Stored:
    """The experts of a stack one below the other."""
    experts, rows, *others = stored.entry.shape
    return replace(stored, entry=stored.entry._replace(shape=(experts * rows, *others)))
