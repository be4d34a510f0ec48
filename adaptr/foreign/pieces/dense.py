"""Differences as they are: of weights (`diff`), of biases (`diff_b`), and of norms, which are added to the base's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.adapter import Target, kinds
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces.module import Layer, Module, Whole, complete

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT, BIAS = "diff", "diff_b"
NORM = {"w_norm": "weight", "b_norm": "bias", "diff": "weight", "diff_b": "bias"}


def is_norm(module: Module) -> bool:
    """Whether it is a module whose weight has one axis."""
    return module.has("w_norm", "b_norm") or len(module.shapes.get(WEIGHT, (1, 1))) == 1


def full(module: Module) -> Layer:
    """The method `full`."""
    shape = module.shape(WEIGHT, (2, 3, 4, 5))
    kernel = shape[2:]
    kind = kinds.convolution(len(kernel)) if kernel else kinds.LINEAR
    values = complete("full", {"bias": module.has(BIAS)})
    target = placing.agreed(module.model, Target(module.path, kind, shape, values))
    pieces = {"D": module.piece(WEIGHT, shape)}
    return Layer("full", target, pieces | ({"b": _bias(module, shape[0])} if module.has(BIAS) else {}))


def bias(module: Module) -> Layer:
    """The method `bitfit`: of a layer that keeps its weight or has another method for it."""
    (out,) = module.shape(BIAS, (1,))
    plain = Target(module.path, kinds.LINEAR, (out, 0), complete("bitfit", {}))
    return Layer("bitfit", placing.biased(module.model, plain), {"b": _bias(module, out)})


def _bias(module: Module, out: int) -> Piece:
    module.require(BIAS, module.shape(BIAS, (1,)) == (out,), f"({out},), as the weight has")
    return module.piece(BIAS, (out,))


def norm(module: Module) -> list[Whole]:
    """The parameters of a norm, whole, of which no method has a delta. Raises `ConfigMissing` without a base."""
    return [_added(module, slot) for slot in NORM if module.has(slot)]


def _added(module: Module, slot: str) -> Whole:
    shape = module.shape(slot, (1,))
    known = placing.needed(module.model, module.path, "it is added to a norm, whose values only the base has")
    there = placing.parameter(known, f"{module.path}.{NORM[slot]}", shape)

    def summed(difference: Tensor) -> Tensor:
        return (there.double() + difference.double()).to(there.dtype)

    return Whole(f"{module.path}.{NORM[slot]}", Piece(module.keys[slot], shape, then=summed))
