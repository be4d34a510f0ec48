"""Quantised tensors as floats again: below the adapter, which gives floats to whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaptr.adapter.tensors import Tensors
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor

#: What the name of a tensor with the scales of another ends in.
SCALE = ".scale"


def dequantize(stored: Mapping[str, Tensor]) -> Tensors:
    """Floats again: integers times their scale, casts to fp32."""
    found = Tensors()
    for name, tensor in stored.items():
        if name.endswith(SCALE):
            continue
        scale = stored.get(name + SCALE)
        found[name] = wide(tensor) if scale is None else tensor.float() * scale
    return found
