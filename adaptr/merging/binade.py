"""What a merge rounds off where elements grow: a few bits for each element that moved into a higher binade.

M = round(W + D) has lost k = e(M) - e(W) bits of W there, and no others: from M and D alone W is known up to 2^k
neighbours. Which elements these are the reader finds out as the writer did, so no positions are stored, and as the bits
are evenly spread no entropy coder is needed. What is still wrong (ties, zeros, more than `DEEP` binades) is left to a
patch.

    count of planes, bits of each (8 bytes each, little-endian) | planes, each in whole bytes, the first bit highest

Plane p holds bit p of each element that moved up more than p binades, in the order of the elements.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from adaptr.errors import DigestMismatch
from adaptr.merging.patch import places

if TYPE_CHECKING:
    from numpy.typing import NDArray

    #: The computed element at flat indices, before it was rounded, in the widest type that it was computed in.
    Exact = Callable[[NDArray[Any]], NDArray[Any]]

DEEP = 8


class Kind(NamedTuple):
    """A dtype's elements as integers: their bytes, the mask of the exponent, and how far that is shifted."""

    size: int
    mask: int
    shift: int


KINDS = {"bfloat16": Kind(2, 0x7F80, 7), "float16": Kind(2, 0x7C00, 10), "float32": Kind(4, 0x7F800000, 23)}


def kind_of(dtype: Any) -> Kind | None:
    """None for dtypes that have no bits kept."""
    return KINDS.get(str(dtype).removeprefix("torch."))


class Lost:
    """The bits of one tensor's elements, collected block by block."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._planes = [_Packed() for _ in range(DEEP)]

    def add(self, true: Any, merged: Any, computed: Any, exact: Exact) -> tuple[Any, Any]:
        """A block of elements as integers; where it is still wrong with these bits, and the exclusive-or there."""
        at = places(_higher(merged, computed, self.kind) | (true != computed))
        want, found = true.take(at), computed.take(at)
        k = _binades(merged.take(at), found, self.kind)
        up = places((k > 0) & (k <= DEEP))
        k = k.take(up)
        half, lowest = _neighbours(exact(at.take(up)), k, self.kind)
        code = want.take(up) - lowest
        code[(code < 0) | (code >= 2 * half)] = 0
        for plane, deep in _deep(k):
            self._planes[plane].put(code[deep] >> plane & 1)
        found[up] = lowest + code
        wrong = want ^ found
        left = places(wrong != 0)
        return at.take(left), wrong.take(left)

    def encode(self) -> bytes:
        """The bits as bytes; empty if there are none."""
        used = [plane for plane in self._planes if plane.count]
        head = struct.pack(f"<{1 + len(used)}Q", len(used), *(plane.count for plane in used))
        return b"".join([head, *(plane.done() for plane in used)]) if used else b""


class Found:
    """The bits of one tensor's elements, given back block by block."""

    def __init__(self, blob: bytes, kind: Kind) -> None:
        """Raises `DigestMismatch` if the bits are damaged, here or when they are applied."""
        self.kind, self._planes = kind, _opened(blob)

    def apply(self, merged: Any, computed: Any, exact: Exact) -> None:
        """Put a block of computed elements, as integers, right in place, but for what the patch holds."""
        import numpy as np

        at = places(_higher(merged, computed, self.kind))
        k = _binades(merged.take(at), computed.take(at), self.kind)
        at, k = at[k <= DEEP], k[k <= DEEP]
        code = np.zeros(at.size, np.int32)
        for plane, deep in _deep(k):
            if plane >= len(self._planes):
                raise DigestMismatch("the bits of the receipt are damaged: a plane is missing")
            code[deep] |= self._planes[plane].take(code[deep].size).astype(np.int32) << plane
        computed[at] = _neighbours(exact(at), k, self.kind)[1] + code


def _higher(merged: Any, computed: Any, kind: Kind) -> Any:
    mask = merged.dtype.type(kind.mask)
    return (merged & mask) > (computed & mask)


def _binades(merged: Any, computed: Any, kind: Kind) -> Any:
    mask = merged.dtype.type(kind.mask)
    return ((merged & mask) - (computed & mask)) >> kind.shift


def _neighbours(exact: Any, k: Any, kind: Kind) -> tuple[Any, Any]:
    """How many neighbours an element may be on each side of the computed one, and the lowest of them all."""
    import numpy as np

    half = np.left_shift(np.int32(1), k - 1, dtype=np.int32)
    return half, _truncated(exact, kind) - (half - 1)


def _deep(k: Any) -> Iterator[tuple[int, Any]]:
    """The planes, and which elements have a bit in each."""
    import numpy as np

    top = int(k.max()) if k.size else 0
    deep: Any = slice(None)
    for plane in range(top):
        if plane == 1:
            deep = np.flatnonzero(k > plane)
        elif plane:
            deep = deep[k.take(deep) > plane]
        yield plane, deep


def _truncated(exact: Any, kind: Kind) -> Any:
    """The elements cut off towards zero to their dtype, as integers."""
    import numpy as np

    if kind.shift == KINDS["bfloat16"].shift:
        return exact.view(np.int32) >> 16
    with np.errstate(over="ignore", invalid="ignore"):
        near = exact.astype(f"f{kind.size}")
        over = np.abs(near.astype(exact.dtype)) > np.abs(exact)  # rounded away from zero: a step back
    return near.view(f"i{kind.size}").astype(np.int32) - over


class _Packed:
    """Bits being packed."""

    def __init__(self) -> None:
        import numpy as np

        self.count = 0
        self._parts: list[bytes] = []
        self._rest = np.empty(0, bool)

    def put(self, bits: Any) -> None:
        import numpy as np

        self.count += bits.size
        bits = np.concatenate([self._rest, bits.astype(bool)])
        whole = bits.size & ~7
        self._parts.append(np.packbits(bits[:whole]).tobytes())
        self._rest = bits[whole:]

    def done(self) -> bytes:
        import numpy as np

        return b"".join([*self._parts, np.packbits(self._rest).tobytes()])


class _Unpacked:
    """Packed bits, given out as wanted."""

    def __init__(self, data: memoryview, count: int) -> None:
        self._data, self._count, self._at = data, count, 0

    def take(self, count: int) -> Any:
        """The next `count` bits. Raises `DigestMismatch` if there are not so many."""
        import numpy as np

        start, self._at = self._at, self._at + count
        if self._at > self._count:
            raise DigestMismatch("the bits of the receipt are damaged: there are not enough")
        part = np.frombuffer(self._data[start >> 3 : (self._at + 7) >> 3], np.uint8)
        return np.unpackbits(part)[start & 7 :][:count]


def _opened(blob: bytes) -> list[_Unpacked]:
    if not blob:
        return []
    try:
        (planes,) = struct.unpack_from("<Q", blob)
        counts = struct.unpack_from(f"<{planes}Q", blob, 8) if planes <= DEEP else ()
    except struct.error:
        raise DigestMismatch("the bits of the receipt are damaged: they are cut short") from None
    at = 8 + 8 * len(counts)
    if not counts or at + sum((count + 7) >> 3 for count in counts) != len(blob):
        raise DigestMismatch("the bits of the receipt are damaged: their planes are not as long as they say")
    found = []
    for count in counts:
        size = (count + 7) >> 3
        found.append(_Unpacked(memoryview(blob)[at : at + size], count))
        at += size
    return found
