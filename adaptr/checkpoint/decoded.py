"""Rows of weights that lie packed: the parts of one in open files, decoded block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.stored import Stored
from adaptr.checkpoint.stream import Rows, read_into
from adaptr.format.header import Entry
from adaptr.format.io import torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.packings import Parts


class _Bytes(ABC):
    """A part by its bytes."""

    entry: Entry

    @abstractmethod
    def bytes(self, start: int, stop: int) -> Tensor:
        """Bytes, as uint8."""

    def rows(self, start: int, stop: int) -> Tensor:
        size = self.entry.nbytes // max(self.entry.shape[0], 1) if self.entry.shape else self.entry.nbytes
        found = self.bytes(start * size, stop * size).view(torch_dtype(self.entry.dtype))
        return found.reshape(stop - start, *self.entry.shape[1:])

    def all(self) -> Tensor:
        return self._all

    @cached_property
    def _all(self) -> Tensor:
        found = self.bytes(0, self.entry.nbytes)
        return found.view(torch_dtype(self.entry.dtype)).reshape(self.entry.shape)


class Part(_Bytes):
    """One of the tensors that a packed weight is made of, in an open file."""

    def __init__(self, stored: Stored, file: int) -> None:
        self.stored, self.file = stored, file
        self.entry = stored.entry

    def bytes(self, start: int, stop: int) -> Tensor:
        import torch

        raw = bytearray(stop - start)
        read_into(self.file, memoryview(raw), self.stored.offset + start, self.stored)
        return torch.frombuffer(raw, dtype=torch.uint8) if raw else torch.empty(0, dtype=torch.uint8)


class Held(_Bytes):
    """One of them in memory."""

    def __init__(self, entry: Entry, raw: bytearray) -> None:
        import torch

        self.entry = entry
        self._raw = torch.frombuffer(raw, dtype=torch.uint8) if raw else torch.empty(0, dtype=torch.uint8)

    def bytes(self, start: int, stop: int) -> Tensor:
        return self._raw[start:stop]


class Blank(_Bytes):
    """One that is not there yet: zeros, which take no memory until they are asked for."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def bytes(self, start: int, stop: int) -> Tensor:
        import torch

        return torch.zeros(stop - start, dtype=torch.uint8)


class Decoded(Rows):
    """Rows of a packed weight, decoded on demand. Experts of a stack may be counted one below the other."""

    def __init__(self, stored: Packed, parts: Parts, span: slice) -> None:
        super().__init__(stored, -1, span)
        self.codec, self.parts = stored.codec, parts
        #: Rows of the weight that are one of the codec's, whose own may be experts.
        self._each = stored.entry.shape[0] // max(stored.codec.shape[0], 1)
        self.step = stored.codec.step * self._each

    def _load(self, start: int, stop: int) -> Tensor:
        first, last = self.start + start, self.start + stop
        low, high = first // self._each, -(-last // self._each)
        found = self.codec.decode(self.parts, low, high).reshape(-1, *self.tail)
        return found[first - low * self._each : last - low * self._each]
