"""Which elements an algebraic inverse gets wrong, and what they were: small, because they are few.

A patch is the exclusive-or of the true and the computed bits where they differ. Positions are stored as gaps (a byte
each, with 0xFF for 255 elements passed over), values in byte planes, each a Huffman-coded stream of its own. Both ends
work block by block, so that the patch of an embedding of a billion elements needs no more memory than its own size.

    gap bytes, values, bytes of an element, length of each stream (8 bytes each, little-endian) | streams
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

from adaptr.kernels.plain import places
from adaptr.merging.damage import damaged

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    Bytes = NDArray[np.uint8]

SKIP = 0xFF
#: How much a reader takes from a stream at a time, packed and unpacked.
PIECE = 1 << 16


class Differences:
    """Differences of one tensor, collected block by block in the order of the elements."""

    def __init__(self) -> None:
        self.last, self.passed, self.count, self.size = -1, 0, 0, 0
        self._streams: list[_Packed] = []

    def add(self, true: Tensor, computed: Tensor, at: int) -> None:
        """A block of contiguous elements of one dtype, starting at flat index `at`."""
        found = integers(true) ^ integers(computed)
        hits = places(found != 0)
        self.note(hits, found.take(hits), at)

    def note(self, hits: NDArray[Any], values: NDArray[Any], at: int) -> None:
        """The same, already found: where in the block, rising, and the exclusive-or there."""
        if not hits.size:
            return
        self.size = values.itemsize
        passed = hits - 1  # between each and the one before; np.diff costs more
        passed[1:] -= hits[:-1]
        passed[0] += at - self.last
        self._put(_gaps(passed), values)
        self.last = at + int(hits[-1])

    def _put(self, gaps: Bytes, values: NDArray[Any]) -> None:
        import numpy as np

        if not self._streams:
            self._streams = [_Packed() for _ in range(1 + self.size)]
        self.passed += gaps.size
        self.count += values.size
        planes = np.ascontiguousarray(values.view(np.uint8).reshape(-1, self.size).T)
        for stream, plane in zip(self._streams, (gaps, *planes), strict=True):
            stream.put(plane)

    def encode(self) -> bytes:
        """The patch as bytes; empty if nothing differs."""
        if not self.count:
            return b""
        streams = [stream.done() for stream in self._streams]
        head = (self.passed, self.count, self.size, *map(len, streams))
        return struct.pack(f"<{len(head)}Q", *head) + b"".join(streams)


def _gaps(passed: NDArray[Any]) -> Bytes:
    """Numbers of elements passed over, as bytes: 255 of them as `SKIP`."""
    import numpy as np

    skips = passed // SKIP
    ends = np.cumsum(skips + 1) - 1
    gaps: Bytes = np.full(int(ends[-1]) + 1, SKIP, np.uint8)
    gaps[ends] = passed - skips * SKIP
    return gaps


class _Packed:
    """Bytes being Huffman-coded, with runs."""

    def __init__(self) -> None:
        self._coder = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
        self._parts: list[bytes] = []

    def put(self, plane: Bytes) -> None:
        self._parts.append(self._coder.compress(plane.data))

    def done(self) -> bytes:
        return b"".join([*self._parts, self._coder.flush()])


def integer(size: int) -> torch.dtype:
    """The signed integer type of so many bytes."""
    import torch

    return {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size]


def integers(block: Tensor) -> NDArray[Any]:
    """The elements as integers, flat, in numpy: it finds and takes few among many several times faster than torch."""
    return block.view(-1).view(integer(block.element_size())).numpy()


def like(block: Tensor, found: NDArray[Any]) -> Tensor:
    """The way back: integers as elements of a block of that shape and dtype."""
    import torch

    return torch.from_numpy(found).view(block.dtype).view(block.shape)


def longest(count: int, size: int) -> int:
    """Bytes that the patch of `count` elements of `size` bytes can have at most.

    A gap and a value for each, and what zlib adds where it can't pack: 5 bytes for each 16 KiB, and its ends.
    """
    return (1 + size) * count * 1025 // 1024 + 1024


class Patch:
    """A patch being applied to a tensor, block by block in the order of the elements."""

    def __init__(self, blob: bytes) -> None:
        """Raises `DigestMismatch` if the patch is damaged, here or when it is applied."""
        import torch

        self._left, self._count, self._size, self._streams = _opened(blob)
        self._last = -1
        self._positions = torch.empty(0, dtype=torch.int64)
        self._values = torch.empty(0, dtype=integer(self._size or 1))

    def apply(self, block: Tensor, at: int) -> None:
        """Put a block of contiguous elements, starting at flat index `at`, right in place."""
        end = at + block.numel()
        while self._left and self._last < end:
            self._read()
        import torch

        hits = int(torch.searchsorted(self._positions, end))
        where = self._positions[:hits] - at
        if hits and (int(where[0]) < 0 or self._size != block.element_size()):
            raise damaged("a patch of the receipt is damaged: it does not fit its tensor")
        block.view(-1).view(integer(block.element_size()))[where] ^= self._values[:hits]
        self._positions, self._values = self._positions[hits:], self._values[hits:]

    def _read(self) -> None:
        """The next piece of the patch."""
        import torch

        gaps = self._streams[0].take(min(self._left, PIECE)).to(torch.int64)
        self._left -= gaps.numel()
        steps = gaps + (gaps != SKIP)
        after = steps.cumsum(0) + self._last
        self._last = int(after[-1])
        positions = after[gaps != SKIP]
        self._count -= positions.numel()
        if self._count < 0 or (not self._left and self._count):
            raise damaged("a patch of the receipt is damaged: it has not as many values as positions")
        self._positions = torch.cat([self._positions, positions])
        self._values = torch.cat([self._values, self._next_values(positions.numel())])

    def _next_values(self, count: int) -> Tensor:
        import torch

        values = torch.zeros(count, dtype=integer(self._size))
        for i, stream in enumerate(self._streams[1:]):
            values |= stream.take(count).to(values.dtype) << 8 * i
        return values


def _opened(blob: bytes) -> tuple[int, int, int, list[_Unpacked]]:
    """Gap bytes, values, bytes of an element, and the streams."""
    if not blob:
        return 0, 0, 0, []
    try:
        passed, count, size = struct.unpack_from("<QQQ", blob)
        lengths = struct.unpack_from(f"<{1 + size}Q", blob, 24) if size in {1, 2, 4, 8} else ()
    except struct.error:
        raise damaged("a patch of the receipt is damaged: it is cut short") from None
    at = 24 + 8 * len(lengths)
    if not lengths or at + sum(lengths) != len(blob):
        raise damaged("a patch of the receipt is damaged: its streams are not as long as it says")
    streams = []
    for length in lengths:
        streams.append(_Unpacked(memoryview(blob)[at : at + length]))
        at += length
    return passed, count, size, streams


class _Unpacked:
    """Huffman-coded bytes, given out as wanted."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._coder = data, zlib.decompressobj()

    def take(self, count: int) -> Tensor:
        """The next `count` bytes. Raises `DigestMismatch` if there are not so many."""
        import torch

        out = bytearray()
        try:
            while len(out) < count:
                given = self._coder.unconsumed_tail
                if not given:
                    given, self._data = bytes(self._data[:PIECE]), self._data[PIECE:]
                got = self._coder.decompress(given, count - len(out))
                if not got and not given:
                    raise damaged(f"a patch of the receipt is damaged: {count - len(out)} bytes are missing")
                out += got
        except zlib.error as error:
            raise damaged(f"a patch of the receipt is damaged: {error}") from None
        return torch.frombuffer(out, dtype=torch.uint8) if out else torch.empty(0, dtype=torch.uint8)
