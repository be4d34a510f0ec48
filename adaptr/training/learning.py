"""What is learned from and measured on: records read, split and made into examples of their task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from adaptr import data, tasks
from adaptr.contract.lifecycle import TASK, TASKS
from adaptr.data import Data, Record
from adaptr.data.split import share_of
from adaptr.data.statistics import shared
from adaptr.errors import BadConfig, BadRecord, shown
from adaptr.evaluating import heads
from adaptr.evaluating.second import Text
from adaptr.sources.given import opened
from adaptr.tasks import Encoded, Limits, Task, Tools
from adaptr.tasks.statistics import Statistics, statistics_of
from adaptr.tasks.texts import room
from adaptr.training.fields import fields
from adaptr.training.recipe import Recipe

#: Records that are measured on where no others are given: of those that are learned from.
MEASURED = 64


@dataclass(frozen=True)
class Given:
    """Data as the recipe names it, read; no tokenizer, no weights. `share`: of the data, held back as `valid`, None
    where that is data of its own; `second`: a text.
    """

    train: Data
    valid: Data | None
    task: Task
    second: Text | None = None
    share: float | None = None

    @property
    def digests(self) -> dict[str, str]:
        """Of what was learned from and measured on: no names, no places. What is held back is said as a share, as it
        has the digest of the whole.
        """
        found = {"data": self.train.digest}
        for name, one in (("valid", self.valid), ("second", self.second)):
            if one is not None:
                found[name] = one.digest
        return found if self.share is None else {**found, "valid": f"{100 * self.share:.15g}%"}

    @property
    def measured(self) -> Sequence[Record]:
        """The records that the base and the adapter are compared on."""
        return self.train.records[:MEASURED] if self.valid is None else self.valid.records


def given(recipe: Recipe, base: Path) -> Given:
    """Read it. Raises `DataError` and `BadRecord` with file and line."""
    train = data.read(recipe.data, recipe.map)
    task = tasks.find(recipe.task, base, train, recipe.objective)
    _require(recipe, task)
    share = None if recipe.valid is None else share_of(recipe.valid)
    valid = None
    if share is not None:
        train, valid = data.split(train, share, recipe.seed)
    elif recipe.valid is not None:
        valid = data.read(recipe.valid, recipe.map)
    second = None if recipe.second is None else Text.read(recipe.second)
    return Given(train, valid, task, second, share)


def _require(recipe: Recipe, task: Task) -> None:
    """Raises `BadConfig` for a field that the task would not heed."""
    if recipe.smoothing and not task.smooths:
        raise BadConfig("`smoothing`", got=recipe.smoothing, want=f"0 for the task `{task.name}`")
    if recipe.beta != fields()["beta"].default and task.trainer != "dpo":
        raise BadConfig("`beta`", got=recipe.beta, want="`objective: dpo` beside it, which it is of")
    if recipe.pack and task.trainer != "sft":
        raise BadConfig("`pack`", got="true", want=f"false for the task `{task.name}`: only texts are packed")


@dataclass(frozen=True)
class Examples:
    """The same, ready for a model."""

    given: Given
    tools: Tools
    limits: Limits
    train: list[Encoded]
    valid: list[Encoded]

    @property
    def collate(self) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]:
        return lambda examples: batch(self.given.task, examples, self.tools)

    @cached_property
    def counted(self) -> Statistics:
        """Of what is learned from."""
        return statistics_of(self.given.train.records, self.train, self.limits, room(self.tools, self.limits))

    @property
    def notes(self) -> list[str]:
        """What people should know of the data and of how it was read."""
        said = [*self.given.train.said, *self.tools.said, *self.counted.said]
        if self.given.valid is None:
            said.append("there is no validation data: loss before and after is of records that were learned from")
        elif known := shared(self.given.train.records, self.given.valid.records):
            said.append(f"{known} of {len(self.given.valid.records)} validation records are among those learned from")
        if cut := len({id(one.record) for one in self.valid if one.cut}):
            said.append(f"{cut} of {len(self.given.valid.records)} validation records are cut, and measured so")  # type: ignore[union-attr]
        return said

    @property
    def statistics(self) -> dict[str, Any]:
        """The same, in figures for people."""
        valid = 0 if self.given.valid is None else len(self.given.valid.records)
        return {**dataclasses.asdict(self.counted), "validation": valid}


def examples(recipe: Recipe, found: Given, base: Path) -> Examples:
    """Raises `BadRecord` for one that is none of its task, is left without anything to learn, or is cut where `strict`
    says that none is.
    """
    task, tools = found.task, tasks.tools(base)
    begun = [] if recipe.adapter is None else [opened(recipe.adapter, base)]
    limits = Limits(recipe.length, heads.labels(task, found.train.records, base, begun))
    train = list(task.encode(found.train.records, tools, limits))
    valid = [] if found.valid is None else list(task.encode(found.valid.records, tools, limits))
    cut = next((one for one in (*train, *valid) if one.cut), None) if recipe.strict else None
    if cut is not None:
        raise BadRecord(
            f"{cut.record.place}: it is {cut.cut} tokens longer than {_limit(tools, limits)}",
            hint="raise `length`, or leave `strict` out, which refuses what is cut",
        )
    return Examples(found, tools, limits, train, valid)


def _limit(tools: Tools, limits: Limits) -> str:
    most = room(tools, limits)
    return f"`length`, {most}" if most == limits.length else f"the {most} tokens that the base takes"


def batch(task: Task, examples: Sequence[Mapping[str, Any]], tools: Tools) -> dict[str, Any]:
    """Examples side by side, with the number of each one's task where that is said."""
    import torch

    own = [{name: value for name, value in one.items() if name != TASKS} for one in examples]
    numbers = [one[TASKS] for one in examples if TASKS in one]
    return {**task.collate(own, tools), **({TASKS: torch.tensor(numbers)} if numbers else {})}


def dataset(encoded: Sequence[Encoded], kind: str, sources: Sequence[str] = ()) -> Any:
    """As the trainer of that `kind` takes it. `sources`: the tasks of which each record says one."""
    rows = [{**one.example, **({TASKS: _task(one.record, sources)} if sources else {})} for one in encoded]
    if kind in {"sft", "dpo"}:
        from datasets import Dataset, disable_progress_bars

        disable_progress_bars()
        return Dataset.from_list(rows)
    return rows


def _task(record: Record, sources: Sequence[str]) -> int:
    """Its number. Raises `BadRecord` for a record that says none of them."""
    said = record.text(TASK)
    if said not in sources:
        raise record.place.bad(f"`{TASK}`", got=f"`{shown(said)}`", want=f"one of {', '.join(sources)}")
    return sources.index(said)
