"""Two LoRAs trained for two tasks on SmolLM2, composed by several strategies and gated, and measured on both tasks.

`python examples/two_tasks.py` writes the table of `docs/two-tasks.md` to standard output; about five minutes on two
cores. The tasks are small: capitals answered like a pirate, and words spelt letter by letter. Every fourth line of the
data is held out, and the loss is the mean over the answers' tokens of those.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")

import real_models
import torch
from answers import batches, encoded, lines
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import adaptr
from adaptr.runtime.learn import learn

TASKS = {"capitals": 30, "spelling": 60}
BATCH, RANK = 4, 8
STRATEGIES: dict[str, dict[str, Any]] = {
    "linear": {},
    "svd": {"rank": RANK},
    "ties": {"density": 0.2, "rank": 2 * RANK},
    "dare-ties": {"density": 0.5, "rank": 2 * RANK},
    "knots": {"rank": 2 * RANK},
    "tsv": {},
}
GATES = {"xlora": 60, "lora-soups": 60}


def split(task: str) -> tuple[list[str], list[str]]:
    """(for training, held out)."""
    rows = lines(f"{task}.tsv")
    return [row for i, row in enumerate(rows) if i % 4], rows[::4]


def train(task: str, base: Path, out: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    fresh = adaptr.create(model, "lora", ["attn.q", "attn.v", "mlp.down"], r=RANK, alpha=2.0 * RANK, name=task)
    with adaptr.train(model, fresh) as session:
        optimiser = torch.optim.AdamW(session.parameters(), lr=2e-3)
        some = batches(AutoTokenizer.from_pretrained(base), split(task)[0], BATCH)
        for _, batch in zip(range(TASKS[task]), some, strict=False):
            model(**batch).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            session.after_step()
        adaptr.save(session.adapted(), out, force=True)
    print(f"trained {task}", file=sys.stderr)


@torch.no_grad()
def losses(folder: Path) -> list[float]:
    """The loss of a checkpoint on what was held out of each task."""
    return held_out(AutoModelForCausalLM.from_pretrained(folder), folder)


def held_out(model: Any, base: Path) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(base)
    return [float(model(**encoded(tokenizer, split(task)[1])).loss) for task in TASKS]


def merged(base: Path, adapters: list[Path], place: Path) -> list[float]:
    """The losses of the base with adapters merged in."""
    out = place / "merged"
    shutil.rmtree(out, ignore_errors=True)
    adaptr.merge(base, adapters, out, receipt=False)
    return losses(out)


@torch.no_grad()
def gated(base: Path, adapters: list[Path], place: Path, method: str) -> list[float]:
    """The losses of the base under a gate over the adapters, which learns from the training lines of both tasks."""
    data, out = place / "both.tsv", place / "gate.safetensors"
    data.write_text("\n".join(row for task in TASKS for row in split(task)[0]))
    with torch.enable_grad():
        learn(base, adapters, data, out, method=method, steps=GATES[method], force=True)
    model = AutoModelForCausalLM.from_pretrained(base)
    with adaptr.attach(model, adaptr.load(out)):
        return held_out(model, base)


def main() -> None:
    base = real_models.smollm2()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        files = {task: place / f"{task}.safetensors" for task in TASKS}
        for task, file in files.items():
            train(task, base, file)
        print("| merged into SmolLM2-135M | capitals | spelling | error of the composition |\n|---|---|---|---|")
        tell("nothing", losses(base))
        for task, file in files.items():
            tell(f"the {task} adapter", merged(base, [file], place))
        for strategy, options in STRATEGIES.items():
            out = place / "mixed.safetensors"
            made = adaptr.compose(list(files.values()), strategy, out, force=True, **options)
            tell(f"both, {strategy}", merged(base, [out], place), made.report.error)
        for method, steps in GATES.items():
            tell(f"both, gated by {method}, {steps} steps", gated(base, list(files.values()), place, method))


def tell(what: str, found: list[float], error: float | None = None) -> None:
    cells = " | ".join(f"{loss:.2f}" for loss in found)
    print(f"| {what} | {cells} | {'' if error is None else f'{error:.1%}'} |", flush=True)


if __name__ == "__main__":
    logging.disable_progress_bar()
    main()
