"""PEFT's DELORA: method `delora`. The norms of the base's columns are in the file."""

from __future__ import annotations

from collections.abc import Mapping
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


class DeLoRA(PeftType):
    name = "delora"
    methods = ("delora",)
    slots = {"A": "delora_A", "B": "delora_B", "l": "delora_lambda", "n": "delora_w_norm"}

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        ranks = fields_of.pattern(config, "rank_pattern")
        starts = fields_of.pattern(config, "lambda_pattern")
        start = fields_of.matching(starts, path, fields_of.number(config, "delora_lambda", 15.0))
        r = fields_of.matching(ranks, path, fields_of.size(config, "r", 8))
        return {"r": r, "start": float(start)}

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        A, B = shapes["A"], shapes["B"]
        if len(A) != 2 or len(B) != 2:
            raise ConfigConflict(
                f"`{path}`: the factors",
                verb="have",
                got=f"shapes {A} and {B}",
                want="two axes each",
                hint=phrases.AGAIN,
            )
        return placing.agreed(model, Target(path, kinds.LINEAR, (B[0], A[1]), values))

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        r, start = ({path: t.config[name] for path, t in adapter.targets.items()} for name in ("r", "start"))
        most, usual = fields_of.common(r), fields_of.common(start)
        return {
            **super().fields(adapter),
            "r": most,
            "rank_pattern": fields_of.patterns(r, most),
            "delora_lambda": usual,
            "lambda_pattern": fields_of.patterns(start, usual),
        }
