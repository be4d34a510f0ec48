"""Where merged rows of a packed weight go: floats into one tensor, or codes into the parts that the base has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaptr.checkpoint.rewrite import Slot
from adaptr.checkpoint.stream import write_all
from adaptr.format.io import raw_bytes, torch_dtype
from adaptr.packings import Encoded, Part, Parts

if TYPE_CHECKING:
    from torch import Tensor


class Written(ABC):
    """Takes blocks of rows, fp32, as the merge has them. `codes`: those of the last block, None for floats."""

    codes: Tensor | None = None

    @abstractmethod
    def write(self, values: Tensor, row: int) -> Tensor:
        """Write rows from `row` on; returns them as they will be read."""

    def steps(self, row: int) -> Tensor:
        """How wide the cells of the last block's codes are."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Write what waits."""


class Floats(Written):
    def __init__(self, slot: Slot, count: int) -> None:
        self.slot, self.dtype = slot, torch_dtype(slot.entry.dtype)
        self.row_bytes = slot.entry.nbytes // max(count, 1)

    def write(self, values: Tensor, row: int) -> Tensor:
        new = values.to(self.dtype).contiguous()
        write_all(self.slot.target, self.slot.offset + row * self.row_bytes, raw_bytes(new))
        return new

    def close(self) -> None:
        pass  # nothing waits


class Codes(Written):
    def __init__(self, codec: Encoded, parts: Parts, slots: Mapping[str, Slot]) -> None:
        self.codec, self.parts = codec, parts
        self.sinks = {role: PartSink(slot, parts[role]) for role, slot in slots.items()}

    def write(self, values: Tensor, row: int) -> Tensor:
        self.codes = self.codec.nearest(values, self.parts, row)
        self.codec.put(self.codes, row, self.sinks)
        return self.codec.values(self.codes, self.parts, row)

    def steps(self, row: int) -> Tensor:
        assert self.codes is not None
        return self.codec.steps(self.codes, self.parts, row)

    def close(self) -> None:
        for sink in self.sinks.values():
            sink.close()


class PartSink:
    """A part that is being written, in a slot of the output."""

    def __init__(self, slot: Slot, part: Part) -> None:
        self.slot, self.part = slot, part
        self._whole: Tensor | None = None

    @property
    def tensor(self) -> Tensor:
        if self._whole is None:
            self._whole = self.part.all().clone()
        return self._whole

    def rows(self, start: int, values: Tensor) -> None:
        each = self.slot.entry.nbytes // max(self.slot.entry.shape[0], 1)
        write_all(self.slot.target, self.slot.offset + start * each, raw_bytes(values.contiguous()))

    def bytes(self, start: int, values: Tensor) -> None:
        write_all(self.slot.target, self.slot.offset + start, raw_bytes(values.contiguous()))

    def close(self) -> None:
        if self._whole is not None:
            write_all(self.slot.target, self.slot.offset, raw_bytes(self._whole))
