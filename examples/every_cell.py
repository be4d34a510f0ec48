"""One cell of `every.py`, in a process of its own: a base trained by one method with one seed, as `adaptr train` does
it or as PEFT does from the same tensors, and measured on records held out.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import real_models
from compare_cell import Clock, peak

from adaptr.adapter import REPLACED

ADAPTR, PEFT = "adaptr", "PEFT"
#: Factors of letters' rates with which nothing but a fresh head moves.
FROZEN = {"A": 1e-30, "B": 1e-30}
#: Where the answer begins in Alpaca's texts.
ANSWER = "### Response:\n"


@dataclass(frozen=True)
class Budget:
    """What every method gets. `held`: records that are measured on; `most`: words of a record, or characters of a text;
    `said`: what some methods want to be told.
    """

    steps: int
    batch: int
    held: int
    most: int
    length: int = 128
    said: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


REVIEWS = Budget(
    steps=40,
    batch=16,
    held=256,
    most=10,
    said={
        "trainable-tokens": {"tokens": list(range(1996, 2496))},  # from ", the of and" on: BERT's ids are by frequency
        "cpt": {"text": "a charming and moving film. a dull and pointless mess."},
        "alora": {"invocation": [101]},  # [CLS], with which every text begins
    },
)
INSTRUCTIONS = Budget(steps=8, batch=2, held=12, most=330)
BUDGETS = {"reviews": REVIEWS, "instructions": INSTRUCTIONS}


@dataclass(frozen=True)
class Cell:
    """`method`: "" for the base with nothing but its fresh head trained. `by`: adaptr, or PEFT."""

    task: str
    method: str = ""
    rate: float = 1e-3
    seed: int = 0
    by: str = ADAPTR


# ---------------------------------------------------------------- records


def split(cell: Cell, data: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(records to learn from, which each seed has others of; records held out, the same for all)."""
    budget = BUDGETS[cell.task]
    wanted = budget.steps * budget.batch
    if cell.task == "reviews":
        learn, held = (phrases(data / f"{name}.tsv", budget.most) for name in ("train", "dev"))
        return learn[cell.seed * wanted :][:wanted], held[: budget.held]
    rows = [row for row in answers(data) if len(row["prompt"] + row["completion"]) <= budget.most]
    held, learn = rows[: budget.held], rows[budget.held :]
    begin = cell.seed * wanted % len(learn)
    return (learn[begin:] + learn[:begin])[:wanted], held


def phrases(file: Path, most: int) -> list[dict[str, str]]:
    """SST-2's phrases of 4 to `most` words."""
    rows = [line.rpartition("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    return [{"text": text.strip(), "label": label} for text, _, label in rows if 4 <= len(text.split()) <= most]


def answers(file: Path) -> list[dict[str, str]]:
    """Alpaca's instructions with their answers."""
    texts = [row["text"].partition(ANSWER) for row in json.loads(file.read_text(encoding="utf-8"))]
    return [{"prompt": asked + mark, "completion": answer} for asked, mark, answer in texts if answer.strip()]


# ---------------------------------------------------------------- training


def measured(cell: Cell, data: Path, steps: int | None = None) -> dict[str, Any]:
    """What training gave and cost. Raises an `AdaptrError` where this method can't be trained so."""
    started = peak()
    with tempfile.TemporaryDirectory() as place:
        given = recipe(cell, data, Path(place), steps)
        found = (ours if cell.by == ADAPTR else theirs)(given, Path(place))
    losses = found.pop("losses")
    if not all(map(math.isfinite, losses)):
        raise SystemExit(f"{cell}: the loss is no number")
    half = losses[len(losses) // 2 :]
    return {**found, "late": sum(half) / len(half), "last": losses[-1], "peak_mb": round(peak() - started)}


def recipe(cell: Cell, data: Path, place: Path, steps: int | None = None) -> dict[str, Any]:
    """The fields of the recipe, those that all share first."""
    budget = BUDGETS[cell.task]
    files = {"data": place / "learn.jsonl", "valid": place / "held.jsonl"}
    for file, rows in zip(files.values(), split(cell, data), strict=True):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    given: dict[str, Any] = {
        "base": str(real_models.minilm() if cell.task == "reviews" else real_models.smollm2()),
        **{name: str(file) for name, file in files.items()},
        "task": "classify" if cell.task == "reviews" else "lm",
        "steps": steps or budget.steps,
        "batch": budget.batch,
        "length": budget.length,
        "rate": cell.rate,
        "seed": cell.seed,
        "samples": 0,
        "save_every": 0,
        "method": cell.method,
        "config": dict(budget.said.get(cell.method, {})),
    }
    return given if cell.method else {**given, "method": "lora", "config": {"r": 1}, "rates": FROZEN}


def ours(given: dict[str, Any], place: Path) -> dict[str, Any]:
    """What `adaptr train` gives."""
    import adaptr
    from adaptr.format import digest

    clock = Clock()
    report = adaptr.fit(**given, out=place / "it.safetensors", watcher=clock)
    return {
        **{name: report.after[name] for name in ("loss", "accuracy") if name in report.after},
        "before": report.before["loss"],
        "losses": report.curves.loss,
        "bytes": report.bytes,
        "step_seconds": clock.step,
        "data": dict(report.data),
        "parameters": _parameters(report, given),
        "recipe": report.recipe_digest,
        "adapter": digest.of_adapter(report.adapter),
        "versions": dict(report.versions),
    }


def _parameters(report: Any, given: Mapping[str, Any]) -> int:
    """What moved."""
    if "rates" not in given:
        return int(report.parameters)
    return sum(report.adapter.tensors[f"{path}:{REPLACED}"].numel() for path in report.adapter.replaced_paths)


def theirs(given: dict[str, Any], place: Path) -> dict[str, Any]:
    """What PEFT's own layers give with transformers' trainer: the same base, tensors, records, order and optimiser."""
    from transformers import PrinterCallback, Trainer
    from with_peft import as_peft, callbacks

    from adaptr.training import learning
    from adaptr.training.arguments import arguments
    from adaptr.training.course import Course
    from adaptr.training.fields import recipe as checked
    from adaptr.training.watching import Watcher
    from adaptr.training.worth import worth

    run = place / "run"
    course = Course(checked(**given), None, run, False, Watcher())
    kind, examples = course.given.task.trainer, course.examples
    trainer: Any = Trainer(
        model=as_peft(course.model, course.start, place),
        args=arguments(course.recipe, "plain", course.machine, run),
        train_dataset=learning.dataset(examples.train, kind),
        data_collator=examples.collate,
    )
    trainer.remove_callback(PrinterCallback)
    clock = Clock()
    for one in callbacks(trainer.model, clock):
        trainer.add_callback(one)
    trainer.train()
    after = worth(trainer.model, examples, course.recipe, Watcher()).figures
    return {
        **{name: after[name] for name in ("loss", "accuracy") if name in after},
        "losses": [point["loss"] for point in trainer.state.log_history if "loss" in point],
        "data": course.given.digests,
        "parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "step_seconds": clock.step,
    }


def line(cell: Cell, data: Path, steps: int | None = None) -> dict[str, Any]:
    """What is kept of a cell: figures, or why there are none."""
    import torch

    from adaptr.errors import AdaptrError, Diverged

    torch.set_num_threads(1)
    started = time.process_time()
    try:
        found = measured(cell, data, steps)
    except Diverged as error:
        return {"diverged": error.fact}
    except AdaptrError as error:
        return {"refused": error.fact}
    except Exception as error:
        if cell.by == ADAPTR:
            raise
        return {"refused": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
    budget = {name: value for name, value in vars(BUDGETS[cell.task]).items() if name != "said"}
    budget["steps"] = steps or budget["steps"]
    return {**found, "budget": budget, "cpu_seconds": round(time.process_time() - started, 1)}


def required(names: Sequence[str]) -> None:
    """Ends where a model is not installed."""
    if missing := [said for said in map(real_models.missing, names) if said]:
        sys.exit("; ".join(missing))
