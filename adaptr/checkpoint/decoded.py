"""Rows of weights that lie packed: the parts of one in open files, decoded block by block."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.stored import Stored
from adaptr.checkpoint.stream import BLOCK, Rows, read_into
from adaptr.format.io import torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.packings import Parts


class Part:
    """One of the tensors that a packed weight is made of, in an open file."""

    def __init__(self, stored: Stored, file: int) -> None:
        self.stored, self.file = stored, file
        self.entry = stored.entry

    def bytes(self, start: int, stop: int) -> Tensor:
        import torch

        raw = bytearray(stop - start)
        read_into(self.file, memoryview(raw), self.stored.offset + start, self.stored)
        return torch.frombuffer(raw, dtype=torch.uint8) if raw else torch.empty(0, dtype=torch.uint8)

    def rows(self, start: int, stop: int) -> Tensor:
        size = self._row
        found = self.bytes(start * size, stop * size).view(torch_dtype(self.entry.dtype))
        return found.reshape(stop - start, *self.entry.shape[1:])

    def all(self) -> Tensor:
        return self._all

    @cached_property
    def _all(self) -> Tensor:
        found = self.bytes(0, self.entry.nbytes)
        return found.view(torch_dtype(self.entry.dtype)).reshape(self.entry.shape)

    @property
    def _row(self) -> int:
        return self.entry.nbytes // max(self.entry.shape[0], 1) if self.entry.shape else self.entry.nbytes


class Decoded(Rows):
    """Rows of a packed weight, decoded on demand. Experts of a stack may be counted one below the other."""

    def __init__(self, stored: Packed, parts: Parts, span: slice) -> None:
        super().__init__(stored, -1, span)
        self.codec, self.parts = stored.codec, parts
        #: Rows of the weight that are one of the codec's, whose own may be experts.
        self._each = stored.entry.shape[0] // max(stored.codec.shape[0], 1)

    def blocks(self) -> list[slice]:
        per_row = max(self.row_bytes // self.dtype.itemsize, 1)
        step = max(BLOCK // per_row, 1)
        step += -step % (self.codec.step * self._each)
        return [slice(i, min(i + step, self.count)) for i in range(0, self.count, step)]

    def _load(self, start: int, stop: int) -> Tensor:
        first, last = self.start + start, self.start + stop
        low, high = first // self._each, -(-last // self._each)
        found = self.codec.decode(self.parts, low, high).reshape(-1, *self.tail)
        return found[first - low * self._each : last - low * self._each]
