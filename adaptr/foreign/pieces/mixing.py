"""GLoRA as LyCORIS writes it: W' = W + (alpha / r) (W a1 a2 + b1 b2), a1 a2 over the inputs of a convolution alike."""

from __future__ import annotations

import math

from adaptr.adapter import Target, kinds
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces.module import Layer, Module, complete

#: adaptr's tensor to theirs.
FACTORS = {"Ad": "a1.weight", "Au": "a2.weight", "Bd": "b1.weight", "Bu": "b2.weight"}
SLOTS = tuple(FACTORS.values())


def read(module: Module) -> Layer:
    """The method `glora`."""
    r, into, *kernel = module.shape(FACTORS["Bu"], (2, 3, 4, 5))
    out = module.shape(FACTORS["Bd"], (2, 3, 4, 5))[0]
    values = {**module.scaled(r), "r": r, "side": "in", "inputs": "none", "biases": "none"}
    kind = kinds.convolution(len(kernel)) if kernel else kinds.LINEAR
    target = Target(module.path, kind, (out, into, *kernel), complete("glora", values))
    sizes = {"Ad": (into, r), "Au": (r, into), "Bd": (out, r)}
    pieces = {name: _matrix(module, slot, sizes[name]) for name, slot in FACTORS.items() if name in sizes}
    pieces["Bu"] = module.piece(FACTORS["Bu"], (r, into, *kernel))
    return Layer("glora", placing.agreed(module.model, target), pieces)


def _matrix(module: Module, slot: str, sizes: tuple[int, int]) -> Piece:
    """A factor, with as many axes of 1 behind it as the kernel has."""
    shape = module.shape(slot, (2, 3, 4, 5))
    module.require(slot, shape[:2] == sizes and math.prod(shape) == math.prod(sizes), f"{sizes}")
    return module.piece(slot, sizes)
