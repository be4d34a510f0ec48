"""Bytes of tensors, moved without ever holding more than a block of them."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING, Any

from adaptr.errors import CheckpointError
from adaptr.format.io import torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.checkpoint.stored import Stored

#: Elements of a block: 1 MiB of fp32, which stays in a core's cache from reading to writing.
BLOCK = 1 << 18
#: Bytes read at once where nothing is computed.
CHUNK = 1 << 20
_NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def shortened(what: str) -> CheckpointError:
    return CheckpointError(f"{what} became shorter while it was read", hint="wait until it is written, and try again")


def copy_range(source: int, start: int, target: int, at: int, count: int) -> None:
    """Copy bytes between files in the kernel (shared blocks where the file system can), else through a buffer."""
    while count:
        try:
            done = os.copy_file_range(source, target, count, start, at)
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            done = write_all(target, at, os.pread(source, min(count, 1 << 20), start))
        if not done:
            raise shortened("a checkpoint")
        start, at, count = start + done, at + done, count - done


def write_all(file: int, at: int, data: bytes | memoryview) -> int:
    """Write everything at an offset; returns how much that was."""
    view, done = memoryview(data), 0
    while done < len(view):
        done += os.pwrite(file, view[done:], at + done)
    return done


def read_into(file: int, view: memoryview, at: int, stored: Stored) -> None:
    """Fill `view` with bytes of the open file of `stored` from an offset on."""
    done = 0
    while done < len(view):
        got = os.preadv(file, [view[done:]], at + done)
        if not got:
            raise shortened(f"`{stored.shard.path}`")
        done += got


def digest_of(stored: Stored) -> str:
    """`sha256:` of a tensor's bytes."""
    sha, at, left = hashlib.sha256(), stored.offset, stored.entry.nbytes
    with open(stored.shard.path, "rb") as file:
        while left:
            raw = os.pread(file.fileno(), min(left, CHUNK), at)
            if not raw:
                raise shortened(f"`{stored.shard.path}`")
            sha.update(raw)
            at, left = at + len(raw), left - len(raw)
    return "sha256:" + sha.hexdigest()


class Rows:
    """Rows of a stored tensor, read on demand into one reused buffer (so a block is gone when the next is read)."""

    #: Blocks are multiples of so many rows.
    step = 1

    def __init__(self, stored: Stored, file: int, span: slice) -> None:

        self.stored, self.file, self.start = stored, file, span.start
        self.count = span.stop - span.start
        self.dtype: Any = torch_dtype(stored.entry.dtype)
        shape = stored.entry.shape
        self.tail = shape[1:]
        self.row_bytes = stored.entry.nbytes // max(shape[0], 1) if shape else stored.entry.nbytes
        self._held: tuple[slice, Tensor] | None = None
        self._buffer = bytearray()

    def blocks(self) -> list[slice]:
        """The rows, in blocks."""
        per_row = max(self.row_bytes // self.dtype.itemsize, 1)
        step = max(BLOCK // per_row, 1)
        step += -step % self.step
        return [slice(i, min(i + step, self.count)) for i in range(0, self.count, step)]

    def read(self, s: slice) -> Tensor:
        """Rows `s` as stored."""
        start, stop, _ = s.indices(self.count)
        if self._held is not None and self._held[0] == slice(start, stop):
            return self._held[1]
        block = self._load(start, stop)
        self._held = (slice(start, stop), block)
        return block

    def _load(self, start: int, stop: int) -> Tensor:
        import torch

        size = (stop - start) * self.row_bytes
        if not size:
            return torch.empty(stop - start, *self.tail, dtype=self.dtype)
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        view = memoryview(self._buffer)[:size]
        read_into(self.file, view, self.offset(start), self.stored)
        return torch.frombuffer(view, dtype=self.dtype).reshape(stop - start, *self.tail)

    def flat(self, s: slice) -> int:
        """The index of the first element of rows `s` in the whole tensor."""
        row: int = self.start + s.start
        return row * int(self.row_bytes // self.dtype.itemsize)

    def offset(self, row: int) -> int:
        """The file offset of a row."""
        at: int = self.stored.offset + (self.start + row) * self.row_bytes
        return at
