"""PEFT's BEFT: method `beft`. A file has the outputs of its layers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft.types import PeftType, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same


class BEFT(PeftType):
    name = "beft"
    methods = ("beft",)
    slots = {"b": "beft_bias"}

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        _, out = placing.axes(path, self.slots["b"], shapes["b"], 2)
        return placing.agreed(model, Target(path, kinds.LINEAR, (out, 0)))

    def piece(self, target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
        return Piece(key, shape[1:])

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        if any(target.kind != kinds.LINEAR for target in adapter.targets.values()):
            raise Unsupported("PEFT's BEFT works on linear layers alone", hint=phrases.OWN)
        return super().fields(adapter)

    def laid(self, target: Target, name: str, found: Same) -> Tensor | Same:
        return found.reshape((1, *found.shape))
