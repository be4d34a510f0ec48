"""(IA)3 as LyCORIS writes it: W' = diag(1 + w) W, or W diag(1 + w) where `on_input` is 1; a bias stays as it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaptr.adapter import Target, kinds
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import alphas
from adaptr.foreign.pieces.module import Layer, Module, complete

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT, SIDE = "weight", "on_input"
SLOTS = (SIDE, WEIGHT)


def read(module: Module) -> Layer:
    """The method `ia3`."""
    shape = module.shape(WEIGHT, (1, 3, 4, 5))
    n, kernel = math.prod(shape), shape[2:]
    module.require(WEIGHT, len(shape) == 1 or shape == (1, n, *(1 for _ in kernel)), "one number for each feature")
    module.shape(SIDE, (0, 1))
    inward = bool(alphas.number(module.file, module.keys[SIDE]))
    kind = kinds.convolution(len(kernel)) if kernel else kinds.LINEAR
    sizes = (0, n) if inward else (n, 0)
    values = complete("ia3", {"side": "in"} if inward else {"side": "out", "bias": False})
    target = Target(module.path, kind, (*sizes, *(0 for _ in kernel)), values)
    return Layer("ia3", placing.agreed(module.model, target), {"l": Piece(module.keys[WEIGHT], (n,), then=_from_one)})


def _from_one(w: Tensor) -> Tensor:
    import torch

    from adaptr.precision import wide

    return (1 + w.double()).to(wide(w).dtype if w.is_floating_point() else torch.float32)
