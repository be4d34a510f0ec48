"""PEFT's DEFT: method `deft`. With `para` a file has the outputs of its layers alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, PeftType, Shapes

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source

WAYS = ("relu", "qr")


class DEFT(PeftType):
    name = "deft"
    methods = ("deft",)
    slots = {"P": "deft_P", "R": "deft_R"}
    table = {
        "para": Field("para", bool, called="kinds, with R and without,"),
        "dropout": Field("deft_dropout", default=0.0, called="dropout rates"),
    }
    turns = open = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        way = fields_of.text(config, "decomposition_method") or WAYS[0]
        if way not in WAYS:
            raise fields_of.misread("decomposition_method", way, " or ".join(WAYS))
        alpha = fields_of.number(config, "alpha") if config.get("alpha") else 0.0
        own = {"r": fields_of.size(config, "r", 8), "project": way, "alpha": alpha}
        return {**super().values(config, path), **own}

    def wanted(self, values: Mapping[str, Any]) -> Mapping[str, str]:
        return {"P": self.slots["P"]} if values["para"] else self.slots

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        """The rank is at most the number of outputs."""
        out, r = placing.axes(path, self.slots["P"], shapes["P"], 2)
        other, into = placing.axes(path, self.slots["R"], shapes["R"], 2) if "R" in shapes else (r, 0)
        if r != other or r != min(values["r"], out):
            raise ConfigConflict(
                f"`{path}`",
                verb="has",
                got=f"ranks {r} and {other}",
                want=f"{min(values['r'], out)}",
                hint=phrases.AGAIN,
            )
        return placing.agreed(model, Target(path, kinds.LINEAR, (out, into), {**values, "r": r}))

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        said = {(target.config["alpha"], target.config["project"]) for target in adapter.targets.values()}
        r = max(target.config["r"] for target in adapter.targets.values())
        if len(said) > 1 or any(target.config["r"] != min(r, target.shape[0]) for target in adapter.targets.values()):
            raise Unsupported(
                "PEFT's DEFT has one rank, one alpha and one projection for all targets", hint=phrases.OWN
            )
        alpha, way = said.pop()
        return {**super().fields(adapter), "r": r, "alpha": alpha or None, "decomposition_method": way}
