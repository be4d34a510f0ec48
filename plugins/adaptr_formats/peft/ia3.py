"""PEFT's IA3: method `ia3`. (out, 1) scales the output; (1, in) the input of a feed-forward's layer.

A file has one side of each layer only; the other size is 0 (not known) unless the base is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, TensorUnknown, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import PeftType, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same


class IA3(PeftType):
    name = "ia3"
    methods = ("ia3",)
    slots = {"l": "ia3_l"}
    turns = True
    only = {"bias": True}

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        return fields_of.complete("ia3", {})

    def form(self, slots: Mapping[str, str]) -> dict[str, Any]:
        extra = next((slot for slot in slots if slot != "ia3_l"), None)
        if extra:
            raise TensorUnknown(f"`{slots[extra]}`: IA3 has no `{extra}`", hint=phrases.AGAIN)
        return {}

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        """Sides come from `feedforward_modules` and must agree with the shapes."""
        shape = shapes["l"]
        side = _side(source, path, shape)
        n = max(shape)
        known = (n, 0) if side == "out" else (0, n)
        turned = fields_of.flag(source.config, "fan_in_fan_out")
        kind = kinds.convolution(len(shape) - 2) if len(shape) > 2 else kinds.layer(turned)
        return placing.agreed(model, Target(path, kind, (*known, *(0 for _ in shape[2:])), {**values, "side": side}))

    def piece(self, target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
        return Piece(key, (max(shape),))

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        inward = [path for path, target in adapter.targets.items() if target.config["side"] == "in"]
        return {**super().fields(adapter), "feedforward_modules": placing.ordered(inward)}

    def laid(self, target: Target, name: str, found: Same) -> Tensor | Same:
        kernel = target.shape[2:]
        column = target.config["side"] == "out" and not kernel
        return found.reshape((*found.shape, 1) if column else (1, *found.shape, *(1 for _ in kernel)))


def _side(source: Source, path: str, shape: tuple[int, ...]) -> str:
    spec = source.config.get("feedforward_modules")
    if not isinstance(spec, str):
        spec = fields_of.words(source.config, "feedforward_modules")
    inward = fields_of.named(spec, path)
    # a convolution has (1, n, 1, 1) on both sides, so there only the configuration says which
    axis = 1 if inward or len(shape) > 2 else 0
    if len(shape) not in (2, 3, 4, 5) or any(size != 1 for i, size in enumerate(shape) if i != axis):
        raise ConfigConflict(
            f"`{path}`: `feedforward_modules` says that its {('input' if inward else 'output')} is scaled, and "
            "the tensor",
            verb="has",
            got=f"shape {shape}",
            hint="correct `feedforward_modules`, or save it again",
        )
    return "in" if inward else "out"
