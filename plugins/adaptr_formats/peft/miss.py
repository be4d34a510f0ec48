"""PEFT's MISS: method `miss`, or `bone` where `init_weights` is "bat", which alone tells them apart.

In bf16 on a CPU, merging "mini" in PEFT overwrites its own tensor, so that saving it then saves another; such a file
is refused by its shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import PeftType, Shapes

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source

BAT, MINI = "bat", "mini"


class MiSS(PeftType):
    name = "miss"
    methods = ("miss", "bone")
    slots = {"M": "miss_block"}
    open = True

    def method(self, config: Mapping[str, Any]) -> str:
        return "bone" if config.get("init_weights") == BAT else "miss"

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        r = fields_of.size(config, "r", 64)
        if self.method(config) == "bone":
            return {"r": r}
        m = fields_of.size(config, "mini_r", 1) if config.get("init_weights") == MINI else 0
        rate = fields_of.number(config, "miss_dropout", 0.0)
        return fields_of.complete("miss", {"r": r, "m": m, "dropout": rate})

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        found = placing.place(model, path, "a MiSS file doesn't say how wide its layers are")
        sizes = {} if "m" not in values else {"rows": found.shape[0], "cols": found.shape[1]}
        return Target(path, found.kind, found.shape, {**values, **sizes})

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        said = {tuple(target.config.get(name) for name in ("r", "m", "dropout")) for target in adapter.targets.values()}
        if len(said) > 1 or any(target.kind != kinds.LINEAR for target in adapter.targets.values()):
            raise Unsupported(
                "PEFT's MiSS has one rank and one width, and works on linear layers alone", hint=phrases.OWN
            )
        r, m, rate = said.pop()
        if m is None:
            return {**super().fields(adapter), "r": r, "init_weights": BAT}
        mini = {"init_weights": MINI, "mini_r": m} if m else {"init_weights": True}
        return {**super().fields(adapter), "r": r, "miss_dropout": rate, **mini}
