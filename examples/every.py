"""Every method that learns trained for the same small budget on the same real task; `docs/choosing.md` has the table.

    python examples/every.py --task reviews --data SST2 [NAME...]

`reviews`: all-MiniLM-L6-v2 on phrases of SST-2's folder (`train.tsv`, `dev.tsv`). `instructions`: SmolLM2-135M on a
JSON file of Alpaca's. The methods are those that are found, each with the configuration and targets that it has where
nothing is said. Seed 0 searches the rate, from the method's own by half powers of ten, for the lowest loss on the
records of the second half of training, none of which was learned from before; the other seeds train at that, and PEFT
where it has the method. A line of `--out` for each cell; what is there is not run again.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import every_cell
import real_models
from every_cell import BUDGETS, PEFT, Cell

from adaptr import plugins
from adaptr.cli import catalogue

SEEDS = (0, 1, 2)
#: The base's, which has nothing but a head to train.
RATE = 1e-2
#: How far a rate may be from where the search begins, in half powers of ten.
FAR = 4
#: Imported once, so that each cell's process does not.
PRELOADED = ["torch", "transformers", "adaptr.training.course", "adaptr.training.trainers", "every_cell"]
Lines = Mapping[Cell, Mapping[str, Any]]


def learning() -> list[str]:
    """The methods that have something to learn, all that are found."""
    return [name for name in plugins.names() if plugins.method(name).can.learns or catalogue.card(name).parts]


class Search:
    """From a method's own rate up by half powers of ten while the loss falls, else down. `wanted`: the cell to run
    next; `best`: that of the rate found, once nothing is wanted; neither where the method can't be trained.
    """

    def __init__(self, task: str, method: str, lines: Lines) -> None:
        self.task, self.method, self.lines = task, method, lines
        self.wanted: Cell | None = None
        found = self._walked()
        self.best = None if found is None or self.wanted else self.at(found)

    def at(self, number: int) -> Cell:
        own = plugins.method(self.method).rate if self.method else RATE
        return Cell(self.task, self.method, float(f"{own * 10 ** (number / 2):.2g}"))

    @property
    def tried(self) -> int:
        """How many rates were."""
        return sum(self.at(number) in self.lines for number in range(-FAR, FAR + 1))

    def _walked(self) -> int | None:
        best, least = 0, self._loss(0)
        if least is None or "refused" in self.lines[self.at(0)]:
            return None
        for direction in (1, -1):
            while abs(best + direction) <= FAR:
                loss = self._loss(best + direction)
                if loss is None or loss >= least:
                    break
                best, least = best + direction, loss
            if self.wanted or best:
                return best
        return best

    def _loss(self, number: int) -> float | None:
        """None where it has not been run, which is wanted then."""
        line = self.lines.get(self.at(number))
        if line is None:
            self.wanted = self.at(number)
            return None
        return float(line.get("late", math.inf))


def cells(task: str, methods: Sequence[str], lines: Lines) -> Iterator[Cell]:
    """What there is to run, the most wanted first, as far as is known from the `lines` that are there."""
    searches = [Search(task, method, lines) for method in methods]
    yield from (one.at(0) for one in searches)
    # all of them a step, before any goes on
    yield from (one.wanted for one in sorted(searches, key=lambda one: one.tried) if one.wanted)
    best = [one.best for one in searches if one.best]
    with_peft = [replace(cell, by=PEFT) for cell in best if cell.method and catalogue.card(cell.method).peft]
    # PEFT's first seed tells where it is another; the spread that it is held against is of ours
    for seeds, those in ((SEEDS[:1], with_peft), (SEEDS, best), (SEEDS, with_peft)):
        yield from (replace(cell, seed=seed) for seed in seeds for cell in those)


def read(out: Path) -> dict[Cell, Any]:
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    return {Cell(**one.pop("cell")): one for one in map(json.loads, lines)}


def run(cell: Cell, data: Path, steps: int | None) -> dict[str, Any]:
    """In a process of its own, so that its peak of memory is its own."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(1, made) as pool:
        return pool.submit(every_cell.line, cell, data, steps).result()


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--task", type=click.Choice(list(BUDGETS)), required=True)
@click.option(
    "--data", required=True, type=click.Path(exists=True, path_type=Path), help="SST-2's folder, Alpaca's file."
)
@click.option("--out", default=Path(__file__).with_suffix(".jsonl"), type=click.Path(path_type=Path), show_default=True)
@click.option("--minutes", default=60.0, show_default=True, help="No cell is begun after so many.")
@click.option("--steps", type=click.IntRange(2), help="Of each training, instead of its own.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Cells at a time, a core each.")
def main(
    names: Sequence[str], task: str, data: Path, out: Path, minutes: float, steps: int | None, workers: int
) -> None:
    """Run the cells of these methods, or of all, that are not in OUT yet."""
    every_cell.required([real_models.MINILM if task == "reviews" else real_models.SMOLLM2])
    ends, wanted = time.monotonic() + 60 * minutes, ["", *(names or learning())]
    failed: set[Cell] = set()
    running: dict[Future[dict[str, Any]], Cell] = {}
    with ThreadPoolExecutor(workers) as pool:
        while True:
            lines = read(out)
            left = {cell: None for cell in cells(task, wanted, lines) if cell not in lines and cell not in failed}
            if time.monotonic() < ends:
                begun = [cell for cell in left if cell not in running.values()][: workers - len(running)]
                running |= {pool.submit(run, cell, data, steps): cell for cell in begun}
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                _keep(running.pop(future), future, out, failed)
    click.echo("the same command goes on" if left or failed else "all is there")


def _keep(cell: Cell, future: Future[dict[str, Any]], out: Path, failed: set[Cell]) -> None:
    """A line of `out`; what went wrong is told, and the others are run."""
    try:
        found = future.result()
    except Exception as error:
        failed.add(cell)
        click.echo(f"{cell}: {type(error).__name__}: {error}", err=True)
        return
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"cell": asdict(cell), **found}) + "\n")
    said = found.get("refused") or found.get("diverged") or f"loss {found['loss']:.4f}, {found['cpu_seconds']} s"
    click.echo(f"{cell.by} {cell.method or 'base'} {cell.rate:g} seed {cell.seed}: {said}")


if __name__ == "__main__":
    main()
