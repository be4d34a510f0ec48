"""Which task it is: by name, or from what the base is and which columns the data has."""

from __future__ import annotations

import difflib
from pathlib import Path

from adaptr.checkpoint.skeleton import described
from adaptr.data.records import Data, named
from adaptr.discovery import Sort
from adaptr.errors import DataError, shown
from adaptr.tasks.base import Task

TASKS = Sort("task", "adaptr.tasks.builtin", "adaptr.tasks", "`adaptr train --help`", within=("[!_]*.py",))
#: Tasks in the order in which they are tried, by how the name of a base's class ends.
ENDINGS = {
    "ForSequenceClassification": ("classify", "regress"),
    "ForTokenClassification": ("tag",),
    "ForQuestionAnswering": ("qa",),
    "ForImageClassification": ("image",),
    "ForSpeechSeq2Seq": ("speech",),
    "WhisperForConditionalGeneration": ("speech",),
    "ForConditionalGeneration": ("seq2seq",),
    "ForCausalLM": ("lm", "tag", "qa", "classify", "regress"),
    "LMHeadModel": ("lm", "tag", "qa", "classify", "regress"),
}
#: For bases without a head of their own.
ANY = ("tag", "qa", "classify", "regress", "image")


def names() -> list[str]:
    return TASKS.names()


def by_name(name: str) -> Task:
    found: Task = TASKS.load(name, Task)
    return found


def find(task: str, base: Path, data: Data, objective: str = "sft") -> Task:
    """The task called `task`; for `auto`, the first that the base is made for and the first record has columns of.

    Raises `DataError` where there is none, with what each would want.
    """
    if objective == "dpo":
        return by_name("preference")
    if task != "auto":
        return by_name(task)
    possible = [by_name(name) for name in _possible(base)]
    for one in possible:
        if one.suits(data):
            return one
    wants = "; ".join(f"{one.name}: {_wants(one)}" for one in possible)
    raise DataError(
        f"{data.given}: the columns {named(data.records[0].values)} are of no task that this base does",
        hint=f"{_meant(possible, data)}`--map` names columns, `--task` a task ({wants})",
    )


def _meant(possible: list[Task], data: Data) -> str:
    """A column that is spelled almost as one that is wanted; and of a table, where names are looked for."""
    wanted = {name: None for task in possible for names in task.columns for name in names}
    for own in data.records[0].values:
        if near := difflib.get_close_matches(own, wanted.keys() - data.records[0].values, n=1, cutoff=0.75):
            return f"did you mean `--map {near[0]}={shown(own)}`? "
    table = data.given.removesuffix(".gz").endswith((".csv", ".tsv", ".tab"))
    return "names are taken from the first line of a table; " if table else ""


def _wants(task: Task) -> str:
    return " or ".join("+".join(names) for names in task.columns)


def _possible(base: Path) -> tuple[str, ...]:
    config = described(base)
    found = config.get("architectures")
    architecture = str(found[0]) if isinstance(found, list) and found else ""
    if architecture.endswith("ForConditionalGeneration") and not config.get("is_encoder_decoder"):
        architecture = "ForCausalLM"  # models of several kinds of input that go on with a text
    return next((names for ending, names in ENDINGS.items() if architecture.endswith(ending)), ANY)
