"""Ways to teach a model compared: full fine-tuning, LoRA, QLoRA, DoRA and (IA)3, ranks, alphas and targets, beside
examples in the prompt; `docs/choosing.md` has the tables and what they mean.

    python examples/compare.py --base MODEL --data DOCUMENTS_WITH_SUMMARIES --second TEXT --minutes 30

Each cell runs in a process of its own and is a line of `--out`. One that is there already, with the same settings, is
not run again, so that the same command goes on where it was stopped. `compare_tables.py` and `compare_pictures.py` show
them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click
from compare_cell import Cell

SEEDS = (0, 1, 2)
RANKS = (1, 2, 4, 8, 16, 32, 64)
#: The rank and alpha that the others are compared at.
R, ALPHA = 16, 16.0
#: Of LoRA and its kin: the best of 1e-4, 3e-4 and 6e-4 with seed 0, as that of full fine-tuning of 3e-5 and 1e-4.
RATE = 6e-4


def lora(name: str, r: int = R, alpha: float = ALPHA, targets: Sequence[str] | None = None, **config: bool) -> Cell:
    return Cell(name, "lora", {"r": r, "alpha": alpha, **config}, targets, rate=RATE)


METHODS = (
    Cell("base"),
    Cell("in context", shots=2),
    Cell("full", "full", rate=3e-5),
    lora(f"lora r={R}"),
    replace(lora(f"qlora r={R}"), base_quant="nf4"),
    replace(lora(f"dora r={R}"), method="dora"),
    Cell("ia3", "ia3", rate=5e-3),
)
OF_RANKS = tuple(lora(f"lora r={r}", r) for r in RANKS if r != R)
OTHERS = (
    lora("rslora r=64", 64, rslora=True),
    lora("rslora r=64, alpha=4", 64, ALPHA / R**0.5, rslora=True),  # as strong as the reference at its rank
    *(lora(f"lora alpha={alpha}", alpha=float(alpha)) for alpha in (8, 32, 64)),
    lora("lora q, v", targets=["attn.q", "attn.v"]),
    lora("lora attention", targets=["attn.q", "attn.k", "attn.v", "attn.o"]),
)


def cells() -> Iterator[Cell]:
    """Every cell, the most wanted first."""
    first, more = SEEDS[:1], SEEDS[1:]
    for group, seeds in ((METHODS, SEEDS), (OTHERS + OF_RANKS, first), (OF_RANKS, more), (OTHERS, more)):
        for seed in seeds:
            yield from (replace(cell, seed=seed) for cell in group)


def finished(out: Path) -> list[dict[str, object]]:
    """The cells that are there, as they were run."""
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    return [json.loads(line)["cell"] for line in lines]


def run(cell: Cell, places: Sequence[str]) -> str:
    """The line of JSON that the cell's process ends with."""
    command = [sys.executable, str(Path(__file__).with_name("compare_cell.py")), json.dumps(asdict(cell)), *places]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{cell.name}, seed {cell.seed}:\n{done.stderr}")
    return done.stdout.strip().rpartition("\n")[2]


@click.command()
@click.option("--base", required=True, type=click.Path(exists=True), help="A model's folder.")
@click.option("--data", required=True, type=click.Path(exists=True), help="Documents with summaries.")
@click.option("--second", required=True, type=click.Path(exists=True), help="A text on which forgetting is measured.")
@click.option("--out", default=Path(__file__).with_suffix(".jsonl"), type=click.Path(path_type=Path), show_default=True)
@click.option("--minutes", default=60.0, show_default=True, help="No cell is begun after so many.")
@click.option("--only", default="", help="Cells whose name begins so.")
@click.option("--steps", type=click.IntRange(2), help="Of each training, instead of its own.")
def main(base: str, data: str, second: str, out: Path, minutes: float, only: str, steps: int | None) -> None:
    """Run the cells that are not in OUT yet."""
    started, there = time.monotonic(), finished(out)
    for cell in cells():
        cell = replace(cell, steps=steps or cell.steps)
        if not cell.name.startswith(only) or asdict(cell) in there:
            continue
        if time.monotonic() - started > 60 * minutes:
            click.echo("the time is over; the same command goes on")
            return
        line = run(cell, (base, data, second))
        with out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        click.echo(f"{cell.name}, seed {cell.seed}: {json.loads(line)['loss']:.3f}")


if __name__ == "__main__":
    main()
