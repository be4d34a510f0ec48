"""PEFT's CARTRIDGE: method `cartridge`, stored as a prefix is; the tokens that don't learn are in its tensor too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.foreign.peft import config as fields_of
from adaptr_formats.peft.prefix_tuning import PrefixTuning

if TYPE_CHECKING:
    from adaptr.adapter import Adapter


class Cartridge(PrefixTuning):
    name = "cartridge"
    methods = ("cartridge",)

    def own(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"frozen": int(fields_of.number(config, "num_frozen_tokens", 1))}

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        fields = {key: value for key, value in super().fields(adapter).items() if key != "prefix_projection"}
        return {**fields, "num_frozen_tokens": next(iter(adapter.targets.values())).config["frozen"]}
