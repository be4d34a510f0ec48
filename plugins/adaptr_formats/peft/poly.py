"""PEFT's POLY: method `poly`. A file is another adapter for each of its tasks, and which it is to be is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Draft, resized
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, PeftType, Shapes

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source

ROUTER = "poly_router"


class Poly(PeftType):
    name = "poly"
    methods = ("poly",)
    slots = {"A": "poly_lora_A", "B": "poly_lora_B", "Z": f"{ROUTER}.module_logits"}
    tasked = True
    table = {
        "r": Field("r", int, 8, called="ranks"),
        "tasks": Field("n_tasks", int, 1, called="numbers of tasks"),
        "skills": Field("n_skills", int, 4, called="numbers of skills"),
        "splits": Field("n_splits", int, 1, called="numbers of splits"),
    }

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        task = fields_of.task(fields_of.size(source.config, "n_tasks", 1), source.task)
        return resized(super().read(source, model), {"task": task})

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        A, B = (placing.axes(path, self.slots[name], shapes[name], 4) for name in "AB")
        return placing.agreed(model, Target(path, kinds.LINEAR, (B[0] * B[3], A[0] * A[2]), values))

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        return {**super().values(config, path), "task": 0}

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        if any(target.kind != kinds.LINEAR for target in adapter.targets.values()):
            raise Unsupported("PEFT's Poly works on linear layers alone", hint=phrases.OWN)
        return {**super().fields(adapter), "poly_type": "poly"}
