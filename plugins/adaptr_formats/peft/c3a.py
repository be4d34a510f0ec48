"""PEFT's C3A: method `c3a`. Sizes of blocks come from the tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, phrases
from adaptr.foreign import placing
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import PeftType, Shapes

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source


class C3A(PeftType):
    name = "c3a"
    methods = ("c3a",)
    slots = {"w": "c3a_kernel"}

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        shape = shapes["w"]
        if len(shape) != 3:
            raise ConfigConflict(
                f"`c3a_kernel` of `{path}`", verb="has", got=f"shape {shape}", want="three axes", hint=phrases.AGAIN
            )
        rows, cols, b = shape
        return placing.agreed(model, Target(path, kinds.LINEAR, (rows * b, cols * b), {**values, "b": b}))

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        b = {path: target.config["b"] for path, target in adapter.targets.items()}
        most = fields_of.common(b)
        return {**super().fields(adapter), "block_size": most, "block_size_pattern": fields_of.by_path(b, most)}
