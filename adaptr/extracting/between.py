"""What lies between two stored tensors, read from their files whenever it is wanted: a block of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from adaptr.algebra.operator import Operator, in_dtype
from adaptr.bulk.blocks import working
from adaptr.checkpoint.open import Stored
from adaptr.checkpoint.stream import Rows
from adaptr.precision import at_least

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Between(Operator):
    """D = after - before in fp32 (fp64 for fp64), of the shape that they are stored in.

    A decomposition reads both files a dozen times, which costs less than holding D: its products are the work.
    """

    __slots__ = ("_after", "_before", "_none", "_shape")

    def __init__(self, before: Rows, after: Rows, experts: bool) -> None:
        import torch

        self._before, self._after = before, after
        self._none = torch.empty(0, dtype=working(after.dtype))
        self._shape = (after.count, *after.tail)
        self.scale, self.experts = 1.0, experts

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Of D's dtype and place; D itself is nowhere."""
        return (self._none,)

    def rows(self, s: slice, dtype: torch.dtype | None = None) -> Tensor:
        new, old = (rows.read(s).to(self._none.dtype) for rows in (self._after, self._before))
        return in_dtype(new - old, dtype)

    def blocks(self) -> Iterator[slice]:
        """Those of reading: each thread has a few at a time, in fp32 and in fp64."""
        return iter(self._after.blocks())

    def product(self, x: Tensor) -> Tensor:
        return self._by_expert("e...i,eoi->e...o", x) if self.experts else super().product(x)

    def back(self, y: Tensor) -> Tensor:
        import torch

        if self.experts:
            return self._by_expert("e...o,eoi->e...i", y)
        y = at_least(y, self.live_dtype)
        found = torch.zeros((*y.shape[:-1], self.size[1]), dtype=y.dtype)
        for s in self.blocks():
            found += y[..., s] @ self._matrices(s, y)
        return found

    def _by_expert(self, sum_of: str, x: Tensor) -> Tensor:
        import torch

        x = at_least(x, self.live_dtype)
        return torch.cat([torch.einsum(sum_of, x[s], self._matrices(s, x)) for s in self.blocks()])

    def norm(self) -> float:
        parts = (self.rows(s).flatten().double() for s in self.blocks())
        return math.sqrt(sum(float(part @ part) for part in parts))


@contextmanager
def between(before: Stored, after: Stored, experts: bool) -> Iterator[Between]:
    """after - before while both files are open. `experts`: the first axis counts experts."""
    with open(before.shard.path, "rb") as one, open(after.shard.path, "rb") as two:
        old, new = (
            Rows(stored, file.fileno(), slice(0, stored.entry.shape[0]))
            for stored, file in ((before, one), (after, two))
        )
        yield Between(old, new, experts)
