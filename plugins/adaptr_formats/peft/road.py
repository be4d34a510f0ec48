"""PEFT's ROAD: method `road`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, PeftType, Shapes

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source

VARIANTS = {"road_1": 1, "road_2": 2, "road_4": 4}


class RoAd(PeftType):
    name = "road"
    methods = ("road",)
    slots = {"theta": "road_theta", "alpha": "road_alpha"}
    table = {"g": Field("group_size", int, 64)}
    open = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        variant = fields_of.text(config, "variant") or "road_1"
        if variant not in VARIANTS:
            raise fields_of.misread("variant", variant, " or ".join(VARIANTS))
        return {**super().values(config, path), "variant": VARIANTS[variant]}

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        """Widths of layers come from the base: the file has their outputs alone."""
        out = shapes["theta"][0] * 2 // values["variant"]
        placing.needed(model, path, "a RoAd file doesn't say how wide its layers are")
        return placing.agreed(model, Target(path, kinds.LINEAR, (out, 0), values))

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        said = {(target.config["variant"], target.config["g"]) for target in adapter.targets.values()}
        if len(said) > 1 or any(target.kind != kinds.LINEAR for target in adapter.targets.values()):
            raise Unsupported(
                "PEFT's RoAd has one variant and one size of groups, and works on linear layers alone",
                hint=phrases.OWN,
            )
        return {**super().fields(adapter), "variant": f"road_{said.pop()[0]}"}
