"""What an inverse gets wrong of a block, found and noted, in numpy: what `compiled` does faster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

#: By how many binades an element may have moved up for its bits to be kept.
DEEP = 8


class Kind(NamedTuple):
    """A dtype's elements as integers: their bytes, the mask of the exponent, and how far that is shifted."""

    size: int
    mask: int
    shift: int


BF16, FP16, FP32 = Kind(2, 0x7F80, 7), Kind(2, 0x7C00, 10), Kind(4, 0x7F800000, 23)


class Coded(NamedTuple):
    """Bits to keep, by plane; where elements are still wrong with them, and the exclusive-or there."""

    planes: list[Array]
    at: Array
    wrong: Array


class Summed(NamedTuple):
    """A block with something added to it, rounded, and what is to be kept for when it is taken off again."""

    merged: Array
    coded: Coded


class Kernels(Protocol):
    """What there are two ways to do, with the same results. Elements are signed integers of their size, in flat
    contiguous arrays.
    """

    def find(self, true: Array, merged: Array, computed: Array, kind: Kind) -> Array:
        """Which elements to look at: those that moved up, and those that are not computed right."""

    def code(self, true: Array, merged: Array, at: Array, computed: Array, cut: Array, kind: Kind) -> Coded:
        """What is to be kept of the elements `at`; `computed` and `cut` (off towards zero) are of these alone."""

    def product(self, left: Array, right: Array) -> Array | None:
        """The product of matrices in fp64 whose sums are exact, in fp32. None where a library is faster."""

    def plus(self, true: Array, added: Array, kind: Kind) -> Array | None:
        """true + added, rounded. None if there is no such way, or the sum is not finite."""

    def add(self, true: Array, added: Array, kind: Kind) -> Summed | None:
        """The same with what is to be kept of it."""


def product(left: Array, right: Array) -> Array | None:
    return None


def plus(true: Array, added: Array, kind: Kind) -> Array | None:
    return None


def add(true: Array, added: Array, kind: Kind) -> Summed | None:
    return None


def find(true: Array, merged: Array, computed: Array, kind: Kind) -> Array:
    return places(higher(merged, computed, kind) | (true != computed))


def code(true: Array, merged: Array, at: Array, computed: Array, cut: Array, kind: Kind) -> Coded:
    want = true.take(at)
    k = binades(merged.take(at), computed, kind)
    up = places((k > 0) & (k <= DEEP))
    k = k.take(up)
    half, lowest = neighbours(cut.take(up), k)
    bits = want.take(up) - lowest
    bits[(bits < 0) | (bits >= 2 * half)] = 0
    computed[up] = lowest + bits
    wrong = want ^ computed
    left = places(wrong != 0)
    return Coded([bits[deep] >> plane & 1 for plane, deep in deeper(k)], at.take(left), wrong.take(left))


def higher(merged: Array, computed: Array, kind: Kind) -> Array:
    """Whether elements moved up."""
    mask = merged.dtype.type(kind.mask)
    found: Array = (merged & mask) > (computed & mask)
    return found


def binades(merged: Array, computed: Array, kind: Kind) -> Array:
    """By how many binades they did."""
    mask = merged.dtype.type(kind.mask)
    found: Array = ((merged & mask) - (computed & mask)) >> kind.shift
    return found


def neighbours(cut: Array, k: Array) -> tuple[Array, Array]:
    """How many neighbours an element may be on each side of the computed one, and the lowest of them all."""
    import numpy as np

    half = np.left_shift(np.int32(1), k - 1, dtype=np.int32)
    return half, cut - (half - 1)


def deeper(k: Array) -> Iterator[tuple[int, Any]]:
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


def places(flags: Array) -> Array:
    """The indices of few among many: eights first, of which most have none. torch is several times slower."""
    import numpy as np

    if flags.size % 8:
        return np.flatnonzero(flags)
    eights = np.flatnonzero(flags.view(np.uint64) != 0)
    hits = np.flatnonzero(flags.reshape(-1, 8).take(eights, axis=0))
    found: Array = eights.take(hits >> 3) * 8 + (hits & 7)
    return found
