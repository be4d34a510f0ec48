"""PEFT's GRALORA: method `gralora`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, phrases
from adaptr.foreign import placing
from adaptr.foreign.peft.types import Field, PeftType, Shapes

if TYPE_CHECKING:
    from torch import nn

    from adaptr.foreign.peft.source import Source

BLOCKS = {"A": "gralora_A", "B": "gralora_B"}
GENERAL = {"Ag": "gralora_A_general", "Bg": "gralora_B_general"}


class GraLoRA(PeftType):
    name = "gralora"
    methods = ("gralora",)
    slots = {**BLOCKS, **GENERAL}
    weight = frozenset(GENERAL.values())
    table = {
        "r": Field("r", int, 32, called="ranks"),
        "split": Field("gralora_k", int, 2, called="numbers of blocks"),
        "hybrid": Field("hybrid_r", int, 0, called="hybrid ranks"),
        "alpha": Field("alpha", default=64.0, called="alphas"),
        "dropout": Field("gralora_dropout", default=0.0, called="dropout rates"),
    }
    turns = open = True

    def wanted(self, values: Mapping[str, Any]) -> Mapping[str, str]:
        return self.slots if values["hybrid"] else BLOCKS

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        A, B = shapes["A"], shapes["B"]
        if len(A) != 3 or len(B) != 3:
            raise ConfigConflict(
                f"`{path}`: the blocks",
                verb="have",
                got=f"shapes {A} and {B}",
                want="three axes each",
                hint=phrases.AGAIN,
            )
        return placing.agreed(model, Target(path, kinds.LINEAR, (B[0] * B[2], A[0] * A[1]), values))
