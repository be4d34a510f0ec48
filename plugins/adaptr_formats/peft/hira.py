"""PEFT's HIRA: method `hira`. On look-up tables the factors have names of their own.

PEFT 0.21 has a `rank_pattern` and does not heed it: ranks come from the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, phrases
from adaptr.foreign import placing
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, PeftType, Shapes

if TYPE_CHECKING:
    from torch import nn

    from adaptr.foreign.peft.source import Source

TABLE = {"A": "hira_embedding_A", "B": "hira_embedding_B"}


class HiRA(PeftType):
    name = "hira"
    methods = ("hira",)
    slots = {"A": "hira_A", "B": "hira_B"}
    others = tuple(TABLE.values())
    table = {
        "r": Field("r", int, 32, called="ranks"),
        "dropout": Field("hira_dropout", default=0.0, called="dropout rates"),
    }
    turns = open = True

    def there(self, values: Mapping[str, Any], slots: Mapping[str, str]) -> Mapping[str, str]:
        return TABLE if TABLE["A"] in slots else self.slots

    def of(self, target: Target) -> Mapping[str, str]:
        return TABLE if target.looked_up else self.slots

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        A, B = shapes["A"], shapes["B"]
        if len(A) < 2 or len(B) < 2:
            raise ConfigConflict(
                f"`{path}`: the factors",
                verb="have",
                got=f"shapes {A} and {B}",
                want="two axes each",
                hint=phrases.AGAIN,
            )
        turned = fields_of.flag(source.config, "fan_in_fan_out")
        flat = kinds.TABLE if TABLE["A"] in {k.slot for k in source.keys if k.path == path} else kinds.layer(turned)
        kind = flat if len(A) == 2 else kinds.convolution(len(A) - 2)
        return placing.agreed(model, Target(path, kind, (B[0], *A[1:]), {**values, "r": A[0]}))
