"""One cell of `compare.py`, in a process of its own, so that its peak of memory is its own: a base trained one way with
one seed, and measured before and after on records held out and on a second text.

`python compare_cell.py CELL BASE DATA SECOND`, CELL being the JSON of a `Cell`, prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

#: Of as many parts of the records one is held out: which one, the seed says.
FOLDS = 3
#: Where Linux counts what the processor's packages used, in microjoules, where the machine has it and lets it be read.
POWER = Path("/sys/class/powercap")
MICROJOULES_PER_WATT_HOUR = 3.6e9


@dataclass(frozen=True)
class Cell:
    """`name`: what it is called in tables. `method`: "" where nothing is trained. `shots`: examples in the prompt.
    `document`, `forgetting`: how many characters are taken of each document, and of the second text.
    """

    name: str
    method: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    targets: Sequence[str] | None = None
    base_quant: str = "none"
    rate: float = 1e-3
    seed: int = 0
    shots: int = 0
    steps: int = 12
    batch: int = 2
    length: int = 160
    document: int = 350
    forgetting: int = 1600


class Clock:
    """Is told of steps, as a `Watcher`, and keeps the processor's time at each."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def begins(self, about: object) -> None:
        pass

    def stepped(self, point: object) -> None:
        self.at.append(time.process_time())

    measures = noted = lambda self, *_: None

    @property
    def step(self) -> float:
        """Seconds of the processor for the median step."""
        return median(after - before for before, after in pairwise(self.at))


def split(data: Path, cell: Cell) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(records to learn from, records held out), as prompts and completions."""
    from adaptr import data as records

    parts: list[list[dict[str, str]]] = [[] for _ in range(FOLDS)]
    for number, one in enumerate(records.read(data).records):
        prompt = f"{one.text('source')[: cell.document].strip()}\n\nIn one sentence:"
        parts[number % FOLDS].append({"prompt": prompt, "completion": " " + one.text("target")})
    held = parts.pop(cell.seed % FOLDS)
    return [row for part in parts for row in part], held


def shown(rows: list[dict[str, str]], examples: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The same records with solved examples before each."""
    before = "".join(f"{one['prompt']}{one['completion']}\n\n" for one in examples)
    return [{**row, "prompt": before + row["prompt"]} for row in rows]


def measured(cell: Cell, base: Path, data: Path, second: Path, place: Path) -> dict[str, Any]:
    """What training, or only asking, gave; `place`: an empty folder for files that are needed meanwhile."""
    learned, held = split(data, cell)
    text = place / "second.txt"
    text.write_text(second.read_text(encoding="utf-8")[: cell.forgetting], encoding="utf-8")
    files = {"data": place / "learned.jsonl", "valid": place / "held.jsonl"}
    for file, rows in zip(files.values(), (learned, shown(held, learned[: cell.shots])), strict=True):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return (trained if cell.method else asked)(cell, base, **files, second=text)


def asked(cell: Cell, base: Path, data: Path, valid: Path, second: Path) -> dict[str, Any]:
    """The base as it is, which forgets nothing; `data` it never sees."""
    import adaptr

    length = cell.length * (1 + cell.shots)
    report = adaptr.evaluate(
        base, (), valid, second=None if cell.shots else second, length=length, batch=cell.batch, metrics=[], resamples=1
    )
    if report.cut:
        raise SystemExit(f"{report.cut} records are longer than {length} tokens")
    row = report.rows[0]
    return {
        "loss": row.values["loss"].value,
        "perplexity": row.second and row.second.value,
        "parameters": 0,
        "data": {"valid": report.data, "second": report.second},
    }


def trained(cell: Cell, base: Path, data: Path, valid: Path, second: Path) -> dict[str, Any]:
    import adaptr
    from adaptr.format import digest

    clock = Clock()
    names = ("method", "config", "targets", "base_quant", "rate", "seed", "steps", "batch", "length")
    fields = {name: getattr(cell, name) for name in names}
    report = adaptr.fit(
        base, data, watcher=clock, valid=str(valid), second=str(second), strict=True, samples=0, save_every=0, **fields
    )
    return {
        "loss": report.after["loss"],
        "perplexity": report.second_after["perplexity"],
        "before": {"loss": report.before["loss"], "perplexity": report.second_before["perplexity"]},
        "parameters": report.parameters,
        "step_seconds": clock.step,
        "data": dict(report.data),
        "recipe": report.recipe_digest,
        "adapter": digest.of_adapter(report.adapter),
        "versions": dict(report.versions),
    }


def energy() -> dict[str, int]:
    """Microjoules that each package of the processor counted; {} where the machine does not say."""
    found = {}
    for file in sorted(POWER.glob("intel-rapl:?/energy_uj")):
        try:
            found[file.parent.name] = int(file.read_text())
        except OSError:  # only root may read it, mostly
            return {}
    return found


def watt_hours(before: Mapping[str, int], after: Mapping[str, int]) -> float | None:
    """Of the whole machine's packages, whoever worked; None where nothing was counted, or a counter began anew."""
    used = [after.get(name, -1) - start for name, start in before.items()]
    return sum(used) / MICROJOULES_PER_WATT_HOUR if used and min(used) >= 0 else None


def peak() -> float:
    """Of this process, in MB; the one that started it is small, as it loads no model."""
    import resource

    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main(said: str, *places: str) -> None:
    cell = Cell(**json.loads(said))
    started, counted = time.perf_counter(), energy()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(cell, *map(Path, places), Path(folder))
    cost = {
        "peak_mb": round(peak()),
        "cpu_seconds": round(time.process_time(), 1),
        "seconds": round(time.perf_counter() - started, 1),
        "watt_hours": watt_hours(counted, energy()),
    }
    print(json.dumps({"cell": asdict(cell), **found, **cost}))


if __name__ == "__main__":
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    main(*sys.argv[1:])
