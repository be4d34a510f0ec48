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
#: What the name of a tensor's other indices ends in, along the axis on which both are not as long.
REST = ".rest"


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
    return Tensors({name: _joined(name, found) for name in found if not name.endswith(REST)})


def _joined(name: str, found: Tensors) -> Tensor:
    import torch

    if name + REST not in found:
        return found[name]
    pieces = (found[name], found[name + REST])
    axis = axis_of(*(tuple(piece.shape) for piece in pieces))
    assert axis is not None, "the reader and the writer see to that"
    return torch.cat(pieces, axis)


def axis_of(one: packed.Shape, other: packed.Shape) -> int | None:
    """The one axis on which the two pieces of a tensor are not as long; None where there are more, or none."""
    apart = [i for i, (n, m) in enumerate(zip(one, other, strict=False)) if n != m]
    return apart[0] if len(one) == len(other) and len(apart) == 1 else None


def joined(one: packed.Shape, other: packed.Shape, axis: int) -> packed.Shape:
    """The shape of a tensor in two pieces."""
    return (*one[:axis], one[axis] + other[axis], *one[axis + 1 :])


def shapes(stored: Mapping[str, packed.Shape]) -> dict[str, packed.Shape]:
    """The shapes of the floats, of the shapes of what is stored; of codes without their blocks, their own."""
    found = {}
    for name, shape in stored.items():
        suffix = packed.suffix_of(name, stored)
        axis = packed.axis_of(shape, stored[name + suffix], packed.BLOCKS[suffix]) if suffix else None
        if not name.endswith(BESIDE):
            found[name] = shape if axis is None else packed.shape_of(shape, axis)
    rests = {name: found.pop(name + REST) for name in [*found] if name + REST in found}
    axes = {name: axis_of(found[name], rest) for name, rest in rests.items()}
    return found | {name: joined(found[name], rests[name], axis) for name, axis in axes.items() if axis is not None}
