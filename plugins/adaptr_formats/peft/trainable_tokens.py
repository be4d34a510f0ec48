"""PEFT's TRAINABLE_TOKENS: method `trainable-tokens`. The tensor that PEFT calls a delta holds the rows themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr.foreign.draft import Draft
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys, tokens
from adaptr.foreign.peft.types import PeftType

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same


class TrainableTokens(PeftType):
    name = "trainable-tokens"
    methods = (tokens.METHOD,)
    slots = {"v": tokens.SLOT}
    open = True

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        fields_of.refuse(source.config, self.refused)
        found = keys.grouped(source.keys)
        rows = {path: keys.chosen(path, slots, self.slots)["v"] for path, slots in found.items()}
        targets, pieces, ties = tokens.read(source, model, rows, source.config.get("token_indices"))
        shared = next(iter(targets.values())).config if targets else {}
        return Draft(self.methods[0], shared, targets, pieces, ties=ties)

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """Raises `Unsupported` for other tokens at each target, which PEFT has no place for."""
        return {**super().fields(adapter), "token_indices": tokens.one_list(adapter)}

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        made = super().tensors(adapter)
        twins = tokens.twins(adapter)
        return made | {f"{p}:v@{t}": (self.key(t, tokens.SLOT), made[f"{p}:v"][1]) for t, p in twins.items()}
