"""Rows of a checkpoint's tensors, whatever they lie in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from adaptr.checkpoint.decoded import Decoded, Part
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.stored import Stored
from adaptr.checkpoint.stream import Rows
from adaptr.format.io import raw_bytes

if TYPE_CHECKING:
    from torch import Tensor

#: Readers of spans of rows.
Readers = Callable[[slice], Rows]


@contextmanager
def reading(stored: Stored) -> Iterator[Readers]:
    """What gives readers of a tensor's rows, while its files are open."""
    with ExitStack() as files:
        if isinstance(stored, Packed):
            opened = {role: files.enter_context(open(one.shard.path, "rb")) for role, one in stored.parts.items()}
            parts = {role: Part(stored.parts[role], file.fileno()) for role, file in opened.items()}
            yield lambda span: Decoded(stored, parts, span)
        else:
            file = files.enter_context(open(stored.shard.path, "rb")).fileno()
            yield lambda span: Rows(stored, file, span)


def every_row(stored: Stored) -> slice:
    """The rows of a tensor; of a number one."""
    return slice(0, stored.entry.shape[0] if stored.entry.shape else 1)


def whole(stored: Stored) -> Tensor:
    """A tensor as the model has it."""
    with reading(stored) as rows:
        return rows(every_row(stored)).read(slice(None)).reshape(stored.entry.shape)


def same_bytes(one: Stored, two: Stored) -> bool:
    """Whether two tensors are equal bit for bit, dtype and shape included; packed ones by what they decode to."""
    if (one.entry.dtype, one.entry.shape) != (two.entry.dtype, two.entry.shape):
        return False
    with reading(one) as first, reading(two) as second:
        a, b = first(every_row(one)), second(every_row(two))
        return all(raw_bytes(a.read(s)) == raw_bytes(b.read(s)) for s in a.blocks())
