"""PEFT's MULTITASK_PROMPT_TUNING: method `mpt`. A file is another prompt for each of its tasks; which is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr.errors import ConfigConflict, phrases
from adaptr.foreign import same
from adaptr.foreign.draft import Draft, Piece, resized
from adaptr.foreign.peft import config as fields_of
from adaptr_formats.peft.prompt_tuning import PromptTuning, copies

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

FACTORS = {"U": "prefix_task_cols", "V": "prefix_task_rows"}


class MultitaskPromptTuning(PromptTuning):
    name = "multitask-prompt-tuning"
    methods = ("mpt",)
    shared = tuple(FACTORS.values())
    tasked = True

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        tasks, r = fields_of.size(source.config, "num_tasks", 1), fields_of.size(source.config, "num_ranks", 1)
        said = {"tasks": tasks, "task": fields_of.task(tasks, source.task), "r": r, "factored": True}
        draft, there = resized(super().read(source, model), said), {key.slot: key.source for key in source.keys}
        rows, d = draft.pieces[":P"].shape
        for name, shape in (("U", (tasks, rows, r)), ("V", (tasks, r, d))):
            key = there.get(FACTORS[name], "")
            if source.shapes.get(key) != shape:
                found, want = source.shapes.get(key, ()), "by the configuration"
                raise phrases.misshapen(f"`{FACTORS[name]}`", found, shape, ConfigConflict, by=want, hint=phrases.AGAIN)
            draft.pieces[f":{name}"] = Piece(key, shape)
        return draft

    def rows(self, adapter: Adapter) -> Adapter:
        return adapter

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        (target,) = adapter.targets.values()
        return {**super().fields(adapter), "num_tasks": target.config["tasks"], "num_ranks": target.config["r"]}

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        import torch

        made, found = super().tensors(adapter), same.at(adapter, "")
        (target,) = adapter.targets.values()
        if not target.config["factored"]:  # factors that change nothing
            rows = max(found["P"].shape[0], copies(adapter, target) * target.config["tokens"])
            ones = torch.ones(1, rows, 1), torch.ones(1, 1, target.shape[0])
            return {**made, **{f":{n}": (key, one) for (n, key), one in zip(FACTORS.items(), ones, strict=True)}}
        missing = copies(adapter, target) * target.config["tokens"] - found["P"].shape[0]
        U = found["U"] if missing <= 0 else found["U"].tensor.repeat(1, 2, 1)
        return {**made, ":U": (FACTORS["U"], U), ":V": (FACTORS["V"], found["V"])}
