"""Quantised tensors as floats again: below the adapter, which gives floats to whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaptr.adapter import packed
from adaptr.adapter.tensors import Tensors
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor

#: What the name of a tensor with the scales of another ends in.
SCALE = ".scale"
#: What the names of all end in that belong to another tensor.
BESIDE = (SCALE, *packed.BLOCKS)


def dequantize(stored: Mapping[str, Tensor]) -> Tensors:
    """Floats again: integers times their scale, codes as what they stand for, casts to fp32."""
    found = Tensors()
    for name, tensor in stored.items():
        if name.endswith(BESIDE):
            continue
        scale, suffix = stored.get(name + SCALE), packed.suffix_of(name, stored)
        if suffix:
            found[name] = packed.values(tensor, stored[name + suffix], suffix)
        else:
            found[name] = wide(tensor) if scale is None else tensor.float() * scale
    return found


def shapes(stored: Mapping[str, packed.Shape]) -> dict[str, packed.Shape]:
    """The shapes of the floats, of the shapes of what is stored; of codes without their blocks, their own."""
    found = {}
    for name, shape in stored.items():
        suffix = packed.suffix_of(name, stored)
        axis = packed.axis_of(shape, stored[name + suffix], packed.BLOCKS[suffix]) if suffix else None
        if not name.endswith(BESIDE):
            found[name] = shape if axis is None else packed.shape_of(shape, axis)
    return found
