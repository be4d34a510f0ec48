"""Whether tensors are what they were when something was derived from them.

Identity, place, shape and version tell of all that torch does to a tensor, except of writing through `.data`, NumPy or
a kernel of one's own, which counts no version. For these some values are compared, spread over rows and columns: all
of a small tensor, one in 500 of a large one and at most 2,048. So what is written past torch is noticed where it
touches more than a few values, on a CPU; on other devices it isn't.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How many values of a tensor are compared: all of so many, and at most so many.
ALL, MOST = 1024, 2048
_WIDTHS = {1: "u1", 2: "u2", 4: "u4", 8: "u8"}


class Watch:
    """On `sources`: tensors, and whatever else can be compared (strengths, names)."""

    __slots__ = ("_marks",)

    def __init__(self, sources: Sequence[Any]) -> None:
        self._marks = [_mark(s) if isinstance(s, Tensor) else s for s in sources]

    @staticmethod
    def can(sources: Sequence[Any]) -> bool:
        """Whether a change would be noticed: tensors of inference mode count no versions, some have no memory."""
        return all(not isinstance(s, Tensor) or _visible(s) for s in sources)

    def holds(self, sources: Sequence[Any]) -> bool:
        """Whether these are the same, unchanged. In one piece, as it is asked by each layer in each forward."""
        if len(sources) != len(self._marks):
            return False
        for source, mark in zip(sources, self._marks, strict=True):
            if type(mark) is not _Mark:
                if source is not mark and (isinstance(source, Tensor) or source != mark):
                    return False
                continue
            tensor, version, place, size, stride, values, kept = mark
            if (
                tensor() is not source
                or source._version != version
                or source.data_ptr() != place
                or source.numel() != size
                or source.stride() != stride
                or (values is not None and values.tobytes() != kept)
            ):
                return False
        return True


class _Mark(NamedTuple):
    """One tensor as it is. `values` looks at its memory, and is only asked while the tensor still lies there."""

    tensor: Any  # a weak reference
    version: int
    place: int
    size: int
    stride: tuple[int, ...]
    values: Any
    kept: bytes


def _mark(tensor: Tensor) -> _Mark:
    values = _values(tensor)
    kept = b"" if values is None else values.tobytes()
    at = tensor._version, tensor.data_ptr(), tensor.numel(), tensor.stride()
    return _Mark(weakref.ref(tensor), *at, values, kept)


def _visible(tensor: Tensor) -> bool:
    if tensor.is_inference() or tensor.layout is not torch.strided or (tensor.numel() and not tensor.data_ptr()):
        return False
    return tensor.is_contiguous() or tensor.mT.is_contiguous()


def _values(tensor: Tensor) -> NDArray[Any] | None:
    """Some of the tensor's memory as a NumPy array that does not keep it alive; None where the CPU can't read it."""
    if tensor.device.type != "cpu" or not tensor.numel():
        return None
    import numpy as np

    count, width = tensor.numel(), tensor.element_size()
    memory: Any = (ctypes.c_byte * (count * width)).from_address(tensor.data_ptr())
    wanted = count if count <= ALL else min(max(count // 512, ALL // 4), MOST)
    step = count // wanted
    return np.frombuffer(memory, _WIDTHS.get(width, f"V{width}"))[:: step if step == 1 else step | 1]
