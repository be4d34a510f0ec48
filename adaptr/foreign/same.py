"""A tensor that goes into a file as it lies in another, byte for byte: nothing is done to it but its shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adaptr.format.io import Stored, dtype_shape, raw_bytes, stored_of

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter


@dataclass(frozen=True)
class Same:
    """The tensor `key` of `tensors`, in row-major `shape`."""

    tensors: Mapping[str, Tensor]
    key: str
    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def reshape(self, shape: tuple[int, ...]) -> Same:
        return replace(self, shape=shape)

    @property
    def tensor(self) -> Tensor:
        """For what is more than another shape."""
        return self.tensors[self.key].reshape(self.shape)


def at(adapter: Adapter, path: str) -> dict[str, Same]:
    """The tensors at a target by parameter name, none of them read, unless they are quantised."""
    if adapter.quantization:
        values = {f"{path}:{name}": tensor for name, tensor in adapter.at(path).items()}
        return {key.rpartition(":")[2]: Same(values, key, tuple(tensor.shape)) for key, tensor in values.items()}
    shapes = {f"{path}:{name}": shape for name, shape in adapter.shapes(path).items()}
    return {key.rpartition(":")[2]: Same(adapter.tensors, key, shape) for key, shape in shapes.items()}


def whole(adapter: Adapter, key: str) -> Same:
    """One of an adapter's tensors by its own key."""
    look = getattr(adapter.tensors, "shape", None)
    return Same(adapter.tensors, key, tuple(adapter.tensors[key].shape) if look is None else look(key))


def flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with all axes behind the first as one."""
    return shape[0], math.prod(shape[1:])


def laid(value: Tensor | Same) -> Stored:
    """Dtype, shape and bytes of what is written."""
    if not isinstance(value, Same):
        return (*dtype_shape(value), (raw_bytes(value),))
    dtype, _, data = stored_of(value.tensors, value.key)
    return dtype, value.shape, data
