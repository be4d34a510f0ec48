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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from adaptr.kernels import fastest
from adaptr.kernels.plain import (
    BF16,
    DEEP,
    FP16,
    FP32,
    Coded,
    Kernels,
    Kind,
    binades,
    deeper,
    higher,
    neighbours,
    places,
)
from adaptr.merging.damage import damaged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    #: The computed element at flat indices, before it was rounded, in the widest type that it was computed in.
    Exact = Callable[[NDArray[Any]], NDArray[Any]]

#: Bits that wait until they are packed.
PIECE = 1 << 16

KINDS = {"bfloat16": BF16, "float16": FP16, "float32": FP32}


def kind_of(dtype: object) -> Kind | None:
    """None for dtypes that have no bits kept."""
    return KINDS.get(str(dtype).removeprefix("torch."))


class Lost:
    """The bits of one tensor's elements, collected block by block."""

    def __init__(self, kind: Kind, kernels: Kernels | None = None) -> None:
        """`kernels`: None for the fastest that there are."""
        self.kind, self.kernels = kind, kernels or fastest()
        self._planes = [_Packed() for _ in range(DEEP)]

    def add(self, true: NDArray[Any], merged: NDArray[Any], computed: NDArray[Any], exact: Exact) -> tuple[Any, Any]:
        """A block of elements as integers; where it is still wrong with these bits, and the exclusive-or there."""
        at = self.kernels.find(true, merged, computed, self.kind)
        cut = _truncated(exact(at), self.kind)
        return self.put(self.kernels.code(true, merged, at, computed.take(at), cut, self.kind))

    def put(self, coded: Coded) -> tuple[Any, Any]:
        """The same, already found."""
        for plane, bits in zip(self._planes, coded.planes, strict=False):
            plane.put(bits)
        return coded.at, coded.wrong

    def encode(self) -> bytes:
        """The bits as bytes; empty if there are none."""
        used = [plane for plane in self._planes if plane.count]
        head = struct.pack(f"<{1 + len(used)}Q", len(used), *(plane.count for plane in used))
        return b"".join([head, *(plane.done() for plane in used)]) if used else b""


def longest(count: int) -> int:
    """Bytes that the bits of `count` elements can have at most."""
    return DEEP * (count // 8 + 1) + 8 * (DEEP + 1)


class Found:
    """The bits of one tensor's elements, given back block by block."""

    def __init__(self, blob: bytes, kind: Kind) -> None:
        """Raises `DigestMismatch` if the bits are damaged, here or when they are applied."""
        self.kind, self._planes = kind, _opened(blob)

    def apply(self, merged: NDArray[Any], computed: NDArray[Any], exact: Exact) -> None:
        """Put a block of computed elements, as integers, right in place, but for what the patch holds."""
        import numpy as np

        at = places(higher(merged, computed, self.kind))
        k = binades(merged.take(at), computed.take(at), self.kind)
        at, k = at[k <= DEEP], k[k <= DEEP]
        code = np.zeros(at.size, np.int32)
        for plane, deep in deeper(k):
            if plane >= len(self._planes):
                raise damaged("the bits of the receipt are damaged: a plane is missing")
            code[deep] |= self._planes[plane].take(code[deep].size).astype(np.int32) << plane
        computed[at] = neighbours(_truncated(exact(at), self.kind), k)[1] + code


def _truncated(exact: NDArray[Any], kind: Kind) -> NDArray[Any]:
    """The elements cut off towards zero to their dtype, as integers."""
    import numpy as np

    if kind == BF16:
        cut: NDArray[Any] = exact.view(np.int32) >> 16
        return cut
    with np.errstate(over="ignore", invalid="ignore"):
        near = exact.astype(f"f{kind.size}")
        over = np.abs(near.astype(exact.dtype)) > np.abs(exact)  # rounded away from zero: a step back
    found: NDArray[Any] = near.view(f"i{kind.size}").astype(np.int32) - over
    return found


class _Packed:
    """Bits being packed, many at a time: most blocks have only a few for the upper planes."""

    def __init__(self) -> None:
        import numpy as np

        self.count = self._held = 0
        self._parts: list[bytes] = []
        self._room = np.empty(PIECE, np.uint8)

    def put(self, bits: Any) -> None:
        self.count += bits.size
        if self._held + bits.size > PIECE:
            bits = self._packed(bits)
        self._room[self._held : self._held + bits.size] = bits
        self._held += bits.size

    def _packed(self, bits: NDArray[Any]) -> NDArray[Any]:
        """Pack all that there is; what does not fill a byte is given back."""
        import numpy as np

        bits = np.concatenate([self._room[: self._held], bits])
        whole, self._held = bits.size & ~7, 0
        self._parts.append(np.packbits(bits[:whole]).tobytes())
        return bits[whole:]

    def done(self) -> bytes:
        import numpy as np

        return b"".join([*self._parts, np.packbits(self._room[: self._held]).tobytes()])


class _Unpacked:
    """Packed bits, given out as wanted."""

    def __init__(self, data: memoryview, count: int) -> None:
        self._data, self._count, self._at = data, count, 0

    def take(self, count: int) -> NDArray[Any]:
        """The next `count` bits. Raises `DigestMismatch` if there are not so many."""
        import numpy as np

        start, self._at = self._at, self._at + count
        if self._at > self._count:
            raise damaged("the bits of the receipt are damaged: there are not enough")
        part = np.frombuffer(self._data[start >> 3 : (self._at + 7) >> 3], np.uint8)
        return np.unpackbits(part)[start & 7 :][:count]


def _opened(blob: bytes) -> list[_Unpacked]:
    if not blob:
        return []
    try:
        (planes,) = struct.unpack_from("<Q", blob)
        counts = struct.unpack_from(f"<{planes}Q", blob, 8) if planes <= DEEP else ()
    except struct.error:
        raise damaged("the bits of the receipt are damaged: they are cut short") from None
    at = 8 + 8 * len(counts)
    if not counts or at + sum((count + 7) >> 3 for count in counts) != len(blob):
        raise damaged("the bits of the receipt are damaged: their planes are not as long as they say")
    found = []
    for count in counts:
        size = (count + 7) >> 3
        found.append(_Unpacked(memoryview(blob)[at : at + size], count))
        at += size
    return found
