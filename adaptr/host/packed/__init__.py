"""Layers that hold their weight in fewer bits, as each library keeps it live: recognised, read, and held for training.

One table for everybody: what a layer's weight is, and whether anything can be learned through it, is asked here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from torch import Tensor, nn

from adaptr.errors import Unsupported
from adaptr.host.packed.base import Packing
from adaptr.host.packed.bitsandbytes import EightBits, FourBits
from adaptr.host.packed.compressed import Compressed
from adaptr.host.packed.gptq import GPTQ
from adaptr.host.packed.hqq import HQQ, Unread
from adaptr.host.packed.subclass import Subclass

__all__ = ["Packing", "hold", "is_packed", "packing_of", "require_learning", "require_sound", "unread"]

PACKINGS: tuple[Packing, ...] = (FourBits(), EightBits(), Subclass(), Compressed(), GPTQ(), HQQ(), Unread())


def packing_of(module: nn.Module) -> Packing | None:
    """How a layer is packed, None for one that has its weight as it is."""
    return next((packing for packing in PACKINGS if packing.holds(module)), None)


def is_packed(weight: Tensor) -> bool:
    """Whether the numbers stored are not the weight: integers, and eight bits that something else scales."""
    return not weight.is_floating_point() or weight.element_size() == 1


def unread(module: nn.Module, weight: Tensor) -> Unsupported:
    """What is to be said of a packed layer that nothing here knows."""
    return Unsupported(
        f"the weight of a `{type(module).__name__}` is packed ({weight.dtype}, shape {tuple(weight.shape)}) "
        "and can't be read",
        hint="delta and insert methods work on it, or load the base unquantised",
    )


def _packed(model: nn.Module) -> Iterator[tuple[str, nn.Module, Packing]]:
    """The packed layers of a model."""
    for path, module in model.named_modules():
        packing = packing_of(module)
        if packing is not None:
            yield path, module, packing


def require_sound(model: nn.Module) -> None:
    """Raises `Unsupported` for layers whose weights are not those of their checkpoint."""
    if getattr(getattr(model, "config", None), "quantization_config", None) is None:
        return
    for path, module, packing in _packed(model):
        packing.require_sound(path, module)


def require_learning(model: nn.Module) -> None:
    """Raises `Unsupported` for layers through which no gradient flows, and nothing would say so."""
    for path, module, packing in _packed(model):
        packing.require_learning(path, module)


def hold(model: nn.Module) -> Callable[[], None]:
    """Keep packed layers so that gradients flow, whatever is measured in between; returns the way back."""
    undo = [packing.hold(module) for _, module, packing in _packed(model)]
    return functools.partial(_all, undo[::-1])


def _all(steps: list[Callable[[], None]]) -> None:
    for step in steps:
        step()
