"""Two LoRAs trained for two tasks on SmolLM2, composed by several strategies and gated, and measured on both tasks.

`python examples/two_tasks.py` writes the table of `docs/two-tasks.md` to standard output; ten minutes on two busy
cores. The tasks are small: capitals answered like a pirate, and words spelt letter by letter. The loss is the mean over
the answers' tokens of `capitals-held-out.jsonl` and `spelling-held-out.jsonl`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")

import real_models

import adaptr
from adaptr.runtime.learn import learn

DATA = Path(__file__).parent
#: Steps of training, by task.
TASKS = {"capitals": 24, "spelling": 60}
RANK = 8
STRATEGIES: dict[str, dict[str, Any]] = {
    "linear": {},
    "svd": {"rank": RANK},
    "ties": {"density": 0.2, "rank": 2 * RANK},
    "dare-ties": {"density": 0.5, "rank": 2 * RANK},
    "knots": {"rank": 2 * RANK},
    "tsv": {},
}
GATES = {"xlora": 60, "lora-soups": 60}


def train(task: str, base: Path, out: Path) -> None:
    fields: dict[str, Any] = {"config": {"r": RANK}, "steps": TASKS[task], "rate": 2e-3, "samples": 0}
    adaptr.fit(base, DATA / f"{task}.jsonl", out, name=task, **fields)
    print(f"trained {task}", file=sys.stderr)


def losses(base: Path, *adapters: Path) -> list[float]:
    """The loss on what was held out of each task, of the base with adapters attached."""
    reports = [
        adaptr.evaluate(base, adapters, DATA / f"{task}-held-out.jsonl", metrics=[], resamples=0) for task in TASKS
    ]
    return [report.rows[-1].values["loss"].value for report in reports]


def gated(base: Path, adapters: list[Path], place: Path, method: str) -> list[float]:
    """The losses of the base under a gate over the adapters, which learns from the training lines of both tasks."""
    data, out = place / "both.jsonl", place / f"{method}.safetensors"
    data.write_text("".join((DATA / f"{task}.jsonl").read_text() for task in TASKS))
    learn(base, adapters, data, out, method=method, steps=GATES[method])
    return losses(base, out)


def main() -> None:
    base = real_models.smollm2()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        files = {task: place / f"{task}.safetensors" for task in TASKS}
        for task, file in files.items():
            train(task, base, file)
        print("| on SmolLM2-135M | capitals | spelling | error of the composition |\n|---|---|---|---|")
        tell("nothing", losses(base))
        for task, file in files.items():
            tell(f"the {task} adapter", losses(base, file))
        for strategy, options in STRATEGIES.items():
            out = place / f"{strategy}.safetensors"
            made = adaptr.compose(list(files.values()), strategy, out, **options)
            tell(f"both, {strategy}", losses(base, out), made.report.error)
        for method, steps in GATES.items():
            tell(f"both, gated by {method}, {steps} steps", gated(base, list(files.values()), place, method))


def tell(what: str, found: list[float], error: float | None = None) -> None:
    cells = " | ".join(f"{loss:.2f}" for loss in found)
    print(f"| {what} | {cells} | {'' if error is None else f'{error:.1%}'} |", flush=True)


if __name__ == "__main__":
    main()
