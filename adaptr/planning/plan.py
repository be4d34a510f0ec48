"""`plan`: methods on a base side by side, and those that fit what is asked for, best first."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adaptr import plugins
from adaptr.errors import AdaptrError, UsageError, shown
from adaptr.planning.advice import ALL_TASKS, RULE, TASKS, Advice, Wishes, advise
from adaptr.planning.counts import BYTES
from adaptr.planning.estimate import Candidate, Estimate, Setting, unsaid
from adaptr.planning.foundation import Foundation, Given, foundation
from adaptr.planning.machines import CARDS, largest
from adaptr.planning.machines import memory as memory_of
from adaptr.planning.memory import OPTIMIZERS
from adaptr.planning.structure import Structure, structure
from adaptr.report import Report

#: How a base is held while an adapter is trained on it: fields of a `Setting`.
HELD: Mapping[str, Mapping[str, Any]] = {
    "16-bit": {},
    "nf4": {"base_quant": "nf4", "double_quant": True},
}


@dataclass(frozen=True)
class Fit:
    """`batch`: the largest one that fits a card, 0 for none."""

    card: str
    memory: int
    batch: int


@dataclass(frozen=True)
class Way:
    """A method, or full fine-tuning, with its base held in one of the `HELD` ways, or as its dtype says."""

    held: str
    estimate: Estimate
    fits: tuple[Fit, ...]


@dataclass(frozen=True)
class Plan(Report):
    """`advice`: where wishes were said. `left`: methods that can't be made on this base alone, with the reason."""

    base: str
    architecture: str
    parameters: int
    ways: tuple[Way, ...]
    advice: tuple[Advice, ...]
    left: Mapping[str, str]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def plan(
    base: Given,
    methods: str | Sequence[str] = (),
    *,
    config: Mapping[str, Any] | None = None,
    targets: str | Sequence[str] | None = None,
    also: str | Sequence[str] = (),
    batch: int = 1,
    length: int = 512,
    dtype: str = "bf16",
    checkpointing: bool = False,
    optimizer: str = "adamw",
    task: str = "lm",
    device: str = "cuda",
    memory: str | int | None = None,
    no_latency: bool = False,
    swappable: bool = False,
    examples: int | None = None,
) -> Plan:
    """What methods cost on a base, from its configuration alone.

    `base`: a folder, a reference, a `config.json` or what is in one. `methods`: all that can be made, if none is named.
    `config`, `targets`, `also`: of every method named, as `create` has them. `task`, `batch`, `length`: what is
    trained, on how many records at a time of how many tokens; `dtype`, `checkpointing`, `optimizer`, `device`: and how.
    `memory`, `no_latency`, `swappable`, `examples`: wishes, by which methods are chosen and ranked. Raises
    `CheckpointError` for a configuration without sizes, `UnknownMethod`, `BadConfig`, `TargetNotFound` as `create`
    does, and `UsageError` for a memory that is none.
    """
    _positive(batch=batch, length=length, examples=examples, memory=None if isinstance(memory, str) else memory)
    _known("dtype", dtype, BYTES)
    _known("optimizer", optimizer, OPTIMIZERS)
    _known("device", device, ("cuda", "cpu"))
    task = task_of(task)
    room = memory_of(memory) if isinstance(memory, str) else memory
    named = [methods] if isinstance(methods, str) else list(methods)
    for name in named:
        plugins.method(plugins.spelled(name, config or {})[0])
    found = foundation(base)
    made = structure(found)
    setting = Setting(batch, length, dtype, checkpointing=checkpointing, optimizer=optimizer, device=device, task=task)
    candidates, left = _candidates(found, made, named, config or {}, targets, also)
    whole = Candidate(found, made, "")
    wishes = Wishes(room, no_latency, swappable, examples, task)
    ways = [way for one in candidates for way in _ways(one, setting)]
    return Plan(
        base=found.name,
        architecture=(found.config.get("architectures") or [found.config["model_type"]])[0],
        parameters=made.total,
        ways=(*ways, _way(whole, setting, _label(setting))),
        advice=tuple(advise(found, candidates, setting, wishes)) if wishes.any else (),
        left=left,
        notes=tuple(filter(None, _notes(found, made, candidates, wishes))),
    )


#: How the class of a base ends that has the head of a task.
HEADED = {
    "classify": "ForSequenceClassification",
    "regress": "ForSequenceClassification",
    "tag": "ForTokenClassification",
    "qa": "ForQuestionAnswering",
    "image": "ForImageClassification",
}


def _notes(base: Foundation, made: Structure, candidates: Sequence[Candidate], wishes: Wishes) -> Iterator[str]:
    yield base.built
    yield unsaid(name for one in candidates for name in one.silent)
    yield RULE if wishes.examples else ""
    ends = HEADED.get(wishes.task, "")
    if ends and not str((base.config.get("architectures") or [""])[0]).endswith(ends):
        yield (
            f"the base has no head for `{wishes.task}`: a fresh one is trained whole beside the adapter, about "
            f"{made.width:,} numbers for each of its outputs, which are not counted here"
        )


def _candidates(
    base: Foundation,
    made: Structure,
    named: Sequence[str],
    config: Mapping[str, Any],
    targets: str | Sequence[str] | None,
    also: str | Sequence[str],
) -> tuple[list[Candidate], dict[str, str]]:
    """Those that are named, any fault of theirs raised; else all, and why some are not there."""
    if named:
        meant = [plugins.spelled(name, config) for name in named]
        return [Candidate(base, made, name, own, targets, _beside(name, also)) for name, own in meant], {}
    found, left = [], {}
    for name in plugins.names():
        try:
            found.append(Candidate(base, made, name, {}, None, _beside(name, also)))
        except AdaptrError as error:
            left[name] = str(error)
    return found, left


def _beside(method: str, also: str | Sequence[str]) -> Sequence[str]:
    """What is trained whole: as said, else what goes with the method."""
    found: Sequence[str] = ([also] if isinstance(also, str) and also else also) or plugins.method(method).recipe.get(
        "also", ()
    )
    return found


def _label(setting: Setting) -> str:
    return "fp32" if setting.dtype == "fp32" else "16-bit"


def _ways(one: Candidate, setting: Setting) -> list[Way]:
    """As the dtype says, and with a quantised base where that is of any use: half the bits and more."""
    found = [_way(one, setting, _label(setting))]
    if setting.device != "cpu":
        found.append(_way(one, dataclasses.replace(setting, **HELD["nf4"]), "nf4"))
    return found


def _way(one: Candidate, setting: Setting, held: str) -> Way:
    @functools.cache
    def peak(batch: int) -> int:
        return one.memory(dataclasses.replace(setting, batch=batch)).peak

    fits = (Fit(card.name, card.memory, largest(card.room, peak)) for card in CARDS)
    return Way(held, one.estimate(setting), tuple(fits))


def _known(name: str, value: str, words: Collection[str]) -> None:
    if value not in words:
        raise UsageError(f"`{name}`", got=f"`{shown(value, 40)}`", want=f"one of {', '.join(words)}")


def task_of(said: str) -> str:
    """A task as recipes call it. Raises `UsageError` for none."""
    _known("task", said, (*ALL_TASKS, *TASKS))
    return TASKS.get(said, said)


def _positive(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise UsageError(f"`{name}`", got=value, want="at least 1")
