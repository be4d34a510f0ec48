"""How a packed weight becomes numbers and numbers a packed weight, by blocks of rows.

A packed weight is several stored tensors, its parts, each in a role: codes, scales, zero points. Shapes are (out, in)
as the model has the weight, or (experts, ...) for stacks; a row is an index of the first axis.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Protocol

from adaptr.format.header import DTYPES, Entry

if TYPE_CHECKING:
    from torch import Tensor

#: Bounds that each element is compared with.
FEW = 32


class Part(Protocol):
    """A stored tensor of a packed weight, read as it is asked for."""

    @property
    def entry(self) -> Entry: ...

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows as stored."""

    def bytes(self, start: int, stop: int) -> Tensor:
        """Bytes, as uint8."""

    def all(self) -> Tensor:
        """The whole tensor, read once."""


class Sink(Protocol):
    """Where a part of the packed weight that is made is put."""

    def rows(self, start: int, values: Tensor) -> None:
        """Rows from `start` on."""

    def bytes(self, start: int, values: Tensor) -> None:
        """Bytes from `start` on."""

    @property
    def tensor(self) -> Tensor:
        """All of it, in memory, as it was and as it will be written: for what lies in neither rows nor bytes."""


Parts = Mapping[str, Part]
Sinks = Mapping[str, Sink]


@dataclass(frozen=True)
class Codec(ABC):
    """The packing of one weight. `scheme`: what people call it; `shape`: of what it decodes to; `dtype`: of that, as
    safetensors calls it.
    """

    scheme: str
    shape: tuple[int, ...]
    dtype: str

    #: The role of the part with the codes.
    main: ClassVar[str] = "weight"

    @property
    def step(self) -> int:
        """Blocks of rows are multiples of it."""
        return 1

    @property
    def entry(self) -> Entry:
        """The decoded weight as a stored tensor would be."""
        return Entry(self.dtype, self.shape, 0, math.prod(self.shape) * DTYPES[self.dtype] // 8)

    @abstractmethod
    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        """{role: (the dtypes that it may have, its shape)} of every part that must be there."""

    @abstractmethod
    def decode(self, parts: Parts, start: int, stop: int) -> Tensor:
        """Rows [start, stop), bit for bit as the library that packed the weight decodes it."""


class Encoded(Codec):
    """What can be written again: codes, and those nearest to numbers that are given."""

    @property
    def in_place(self) -> bool:
        """Whether whatever changes is written so, as its file has no other way."""
        return False

    @property
    def written(self) -> Encoded:
        """What changed rows are written with: another codec where this one can only be read."""
        return self

    @property
    def is_float(self) -> bool:
        """Whether codes are floats, of which an adapter loses as little as of any float."""
        return False

    def shifted(self, group: int) -> Encoded | None:
        """What writes changes that are one number for each row and `group` inputs, in their order, as other zero points
        under the same codes; None where zero points are no floats, or one of them is for inputs of several groups.
        """
        return None

    @abstractmethod
    def before(self, row: int) -> int:
        """How many codes there are before a row."""

    @abstractmethod
    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        """The codes of rows, unpacked, in an integer type."""

    @abstractmethod
    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        """What the codes of rows from `start` on stand for, as `decode` has it."""

    @abstractmethod
    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        """Pack the codes of rows from `start` on."""

    @abstractmethod
    def nearest(self, values: Tensor, parts: Parts, start: int) -> Tensor:
        """The codes nearest to `values` (fp32, rows from `start` on). `parts`: of the base."""

    @abstractmethod
    def steps(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        """How wide the cell of each code is, fp32: what is rounded to it lies in it."""

    def decode(self, parts: Parts, start: int, stop: int) -> Tensor:
        return self.values(self.codes(parts, start, stop), parts, start)


class Grid(Encoded):
    """Codes that stand for levels, times a scale.

    Written with the scales that are there: the base itself stays what it is, and no change is rounded to less than
    nothing.
    """

    @abstractmethod
    def levels(self) -> Tensor:
        """The level of each code, fp32; NaN for codes that stand for none."""

    @abstractmethod
    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        """Indices into `levels`."""

    @abstractmethod
    def scale(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """fp32 (scale, zero) of rows, of the shape of the rows or one that spreads to it: scale x (level - zero)."""

    def before(self, row: int) -> int:
        return row * math.prod(self.shape[1:])

    def nearest(self, values: Tensor, parts: Parts, start: int) -> Tensor:
        """Under the scales that are there."""
        import torch

        scale, zero = self.scale(parts, start, start + values.shape[0])
        x = torch.where(scale == 0, 0.0, values / scale)
        if zero is not None:
            x += zero
        order = self._order
        return order.take(below(x, self._middles).long()) if not self._sorted else below(x, self._middles)

    def steps(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        scale, _ = self.scale(parts, start, start + codes.shape[0])
        return picked(self._widths, codes).mul_(scale.abs())

    @cached_property
    def _order(self) -> Tensor:
        """The codes by their levels, each level once."""
        import torch

        levels = self.levels()
        order = torch.argsort(levels.nan_to_num(nan=math.inf), stable=True)
        order = order[: int((~levels.isnan()).sum())]
        first = torch.cat([torch.ones(1, dtype=torch.bool), levels[order][1:] != levels[order][:-1]])
        return order[first].to(torch.int16)

    @cached_property
    def _sorted(self) -> bool:
        """Whether codes rise as their levels do, from 0 on."""
        import torch

        return torch.equal(self._order.long(), torch.arange(len(self._order)))

    @cached_property
    def _middles(self) -> Tensor:
        found = self.levels()[self._order.long()]
        return (found[1:] + found[:-1]) / 2

    @cached_property
    def _widths(self) -> Tensor:
        """The width of each code's cell, in levels."""
        import torch

        levels, middles = self.levels(), self._middles
        inner = torch.cat([middles[:1] * 2 - middles[1:2], middles, middles[-1:] * 2 - middles[-2:-1]]).diff()
        at = torch.bucketize(levels.nan_to_num(), middles)
        return inner[at]


def picked(table: Tensor, codes: Tensor) -> Tensor:
    """`table[codes]`, fp32, by numpy, which takes indices of a byte as they are."""
    import numpy as np
    import torch

    return torch.from_numpy(np.take(table.numpy(), codes.numpy()))


def below(x: Tensor, bounds: Tensor) -> Tensor:
    """How many of the rising `bounds` each element is above, uint8 for less than 256 of them.

    Of few, comparing with each is many times faster than `torch.bucketize`, and its result is the same.
    """
    import torch

    if len(bounds) > FEW:
        return torch.bucketize(x.contiguous(), bounds, out_int32=True)
    count = torch.zeros_like(x, dtype=torch.uint8)
    above = torch.empty_like(x, dtype=torch.bool)
    for bound in bounds.tolist():
        count += torch.gt(x, bound, out=above).view(torch.uint8)
    return count
