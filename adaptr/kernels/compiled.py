"""The kernels of `plain`, in C: the same results, in one pass over a block where a block in bf16 is a sum."""

# numpy is imported at module level here: this file is only imported where there are blocks.
from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptr.kernels.building import LIBRARY, digest
from adaptr.kernels.plain import BF16, DEEP, Coded, Kernels, Kind, Summed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def load(library: Path = LIBRARY) -> Kernels | None:
    """The kernels of a library; None if there is none, or it is of another machine or another source."""
    try:
        found = ctypes.CDLL(str(library))
        found.source.restype = ctypes.c_char_p
        return Compiled(found) if found.source() == digest().encode() else None
    except (OSError, AttributeError):
        return None


class Compiled:
    """`Kernels` of a library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def add(self, true: Array, added: Array, kind: Kind) -> Summed | None:
        if kind != BF16 or added.dtype != np.float32:
            return None
        merged, (planes, used, left, wrong) = np.empty_like(true), _room(true, true.size)
        count = self._call("add_bf16", true, added, true.size, merged, planes, used, left, wrong)
        return None if count < 0 else Summed(merged, _coded(planes, used, left, wrong, count))

    def find(self, true: Array, merged: Array, computed: Array, kind: Kind) -> Array:
        at = np.empty(true.size, np.int64)
        return at[: self._call(f"find_{8 * kind.size}", true, merged, computed, true.size, kind.mask, at)]

    def code(self, true: Array, merged: Array, at: Array, computed: Array, cut: Array, kind: Kind) -> Coded:
        planes, used, left, wrong = _room(true, at.size)
        name, given = f"code_{8 * kind.size}", (true, merged, at, computed, cut)
        count = self._call(name, *given, at.size, kind.mask, kind.shift, planes, used, left, wrong)
        return _coded(planes, used, left, wrong, count)

    def _call(self, name: str, *given: Array | int) -> int:
        """Numbers and contiguous arrays, as they are."""
        function = getattr(self._library, name)
        function.restype = ctypes.c_int64
        count: int = function(*(ctypes.c_int64(x) if isinstance(x, int) else ctypes.c_void_p(_start(x)) for x in given))
        return count


def _room(like: Array, size: int) -> tuple[Array, Array, Array, Array]:
    """Where `Coded` goes: planes, how much of each is used, places and what is wrong there."""
    planes, used = np.empty((DEEP, size), np.uint8), np.empty(DEEP, np.int64)
    return planes, used, np.empty(size, np.int64), np.empty(size, like.dtype)


def _coded(planes: Array, used: Array, left: Array, wrong: Array, count: int) -> Coded:
    return Coded([planes[p, :n] for p, n in enumerate(used.tolist()) if n], left[:count], wrong[:count])


def _start(array: Array) -> int:
    assert array.flags.c_contiguous
    start: int = array.__array_interface__["data"][0]
    return start
