"""`full` of MLX-LM: all parameters of the layers that were trained, as they are afterwards.

What was trained is their difference from the base's: `full` of weights and biases. Norms, which have no delta, are
whole parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigMissing, TargetMismatch, TensorUnknown, Unsupported, phrases, shown
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces.module import Layer, Module, Whole, complete
from adaptr.foreign.weights import Weights
from adaptr_formats.mlx.config import FULL

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.foreign.format import BaseModel

WEIGHT, BIAS = "weight", "bias"


def layers(
    shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor], base: BaseModel | None
) -> list[Layer | Whole]:
    """What the file does to each module. Raises `ConfigMissing` without a base, a `WrongBase` for one that differs."""
    from adaptr.checkpoint.skeleton import skeleton

    if base is None:
        raise ConfigMissing(
            "the file holds whole parameters (`fine_tune_type` is `full`), and what was trained is their difference "
            "from the base's",
            hint="give the base with its weights (`--base`)",
        )
    groups: dict[str, dict[str, str]] = {}
    for key in shapes:
        path, _, name = key.rpartition(".")
        if name not in (WEIGHT, BIAS) or not path:
            raise TensorUnknown(f"`{shown(key)}` is no weight or bias", hint=phrases.AGAIN)
        groups.setdefault(path, {})[name] = key
    model, known = skeleton(base), Weights(base)
    found: list[Layer | Whole] = []
    for path in placing.ordered(groups):
        slots = groups[path]
        found += _of(Module(path, slots, {slot: shapes[key] for slot, key in slots.items()}, tensors, model), known)
    return found


def _of(module: Module, known: Weights) -> list[Layer | Whole]:
    for slot, key in module.keys.items():
        there = tuple(known.parameter(key).shape)
        if there != module.shapes[slot]:
            raise TargetMismatch(
                f"`{key}`", verb="has", got=str(module.shapes[slot]), want=str(there), hint=phrases.BASE
            )
    if len(module.shapes.get(WEIGHT, ())) != 2:
        return [Whole(key, Piece(key, module.shapes[slot])) for slot, key in module.keys.items()]
    values = complete(FULL, {"bias": module.has(BIAS)})
    target = placing.agreed(module.model, Target(module.path, kinds.LINEAR, module.shape(WEIGHT, (2,)), values))
    if target.kind != kinds.LINEAR:
        raise Unsupported(
            f"`{module.path}` is of kind `{target.kind}`, whose weight lies otherwise in MLX's files",
            hint="merge it with MLX, and extract the difference (`adaptr extract`)",
        )
    pieces = {
        name: _difference(module, slot, known) for name, slot in {"D": WEIGHT, "b": BIAS}.items() if module.has(slot)
    }
    return [Layer(FULL, target, pieces)]


def _difference(module: Module, slot: str, known: Weights) -> Piece:
    key = module.keys[slot]

    def trained(value: Tensor) -> Tensor:
        import torch

        difference = value.double() - known.parameter(key).double()
        return difference.to(torch.promote_types(value.dtype, torch.float32))

    return Piece(key, module.shapes[slot], then=trained)
