"""The kernels of `plain`, in C: the same results, in one pass over a block in bf16 or fp16 that is a sum."""

# numpy is imported at module level here: this file is only imported where there are blocks.
from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptr.kernels.building import LIBRARY, digest
from adaptr.kernels.plain import BF16, DEEP, FP16, Coded, Kernels, Kind, Summed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


#: The types of two bytes, by what their kernels are called.
HALVES = {BF16: "bf16", FP16: "fp16"}


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

    def product(self, left: Array, right: Array) -> Array | None:
        (height, rank), width = left.shape, right.shape[1]
        out = np.empty((height, width), np.float32)
        given = np.ascontiguousarray(left), np.ascontiguousarray(right)
        return None if self._call("product", *given, height, rank, width, out) < 0 else out

    def plus(self, true: Array, added: Array, kind: Kind) -> Array | None:
        if kind not in HALVES or added.dtype != np.float32:
            return None
        merged = np.empty_like(true)
        return None if self._call(f"plus_{HALVES[kind]}", true, added, true.size, merged) < 0 else merged

    def add(self, true: Array, added: Array, kind: Kind) -> Summed | None:
        if kind not in HALVES or added.dtype != np.float32:
            return None
        merged, (planes, used, left, wrong) = np.empty_like(true), _room(true, true.size)
        count = self._call(f"add_{HALVES[kind]}", true, added, true.size, merged, planes, used, left, wrong)
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
        if function.restype is not ctypes.c_int64:  # said once: it is not for nothing
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
