"""Start-up: processor time of whole commands on small files, this version and others in one run, in turn.

`python benchmarks/startup.py [ROUNDS] [TREE...]`: a tree is a checkout of another version, run by the same Python. A
command that a version refuses has no figure in its column.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import measure
import synthetic

ROOT = Path(__file__).resolve().parents[1]
#: What needs no mathematics, in the order in which one leaves what the next wants. `small` has 210 targets.
QUICK = {
    "--version": "--version",
    "--help": "--help",
    "diff --help": "diff --help",
    "train --help": "train --help",
    "methods": "methods",
    "methods lora": "methods lora",
    "inspect (210 targets)": "inspect small.safetensors",
    "inspect (PEFT folder)": "inspect lora-small",
    "check": "check style.safetensors --on vllm --base base",
    "convert (PEFT to adaptr)": "convert lora-small -o small.safetensors --force",
    "convert (adaptr to PEFT)": "convert small.safetensors --to peft -o peft --force",
    "convert (adaptr to kohya)": "convert small.safetensors --to kohya -o kohya.safetensors --force",
    "tag": "tag small.safetensors bench:1",
    "list": "list",
    "log": "log bench:1",
    "push (to a folder)": "push bench:1 file://{place}#bench --force",
    "info (in a folder)": "info file://{place}#bench",
    "search": "search bench",
    "pull (from a folder)": "pull file://{place}#bench -o pulled --force",
}
#: What reads or computes with weights, which is torch's work.
WEIGHTS = {
    "diff": "diff style.safetensors tone.safetensors",
    "merge": "merge base style.safetensors -o merged --force",
    "extract": "extract base tuned --rank 4 -o extracted.safetensors --force",
    "compose": "compose style.safetensors tone.safetensors -o both.safetensors --force",
}
#: A command that goes wrong in a version is not measured there.
Seconds = dict[str, dict[str, list[float]]]


def main(rounds: int, trees: list[Path]) -> None:
    place = measure.workplace() / "startup"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    run([sys.executable, "-m", "adaptr.playground"], place, ROOT)
    synthetic.lora(place / "lora-small", synthetic.SMOLLM2)
    columns = {str(tree.name): tree for tree in trees} | {"this": ROOT}
    bare = [seconds for _ in range(5 * rounds) if (seconds := run([sys.executable, "-c", "pass"], place, ROOT))]
    found: Seconds = {name: {column: [] for column in columns} for name in QUICK | WEIGHTS}
    for number in range(rounds + 1):
        for name, line in (QUICK | WEIGHTS).items():
            for column, tree in columns.items():
                words = line.format(place=place / f"at-{tree.name}").split()
                cpu = run([sys.executable, "-m", "adaptr", *words], place, tree)
                if number and cpu is not None:
                    found[name][column].append(cpu)
    print(table(found, statistics.median(bare)))


def run(command: list[str], place: Path, tree: Path) -> float | None:
    """Seconds of processor time of a process that runs a tree's code, None where it ends with an error (1 is none: it
    says that things differ).
    """
    paths = os.pathsep.join([str(tree), str(tree / "plugins")])
    home = place / f"home-{tree.name}"
    env = {**os.environ, "PYTHONPATH": paths, "ADAPTR_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, cwd=place, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return None if child.returncode > 1 else usage.ru_utime + usage.ru_stime


def table(found: Mapping[str, Mapping[str, list[float]]], bare: float) -> str:
    """Medians in milliseconds, and how many times `python -c pass` they are."""
    columns = list(next(iter(found.values())))
    lines = [f"`python -c pass`: {bare * 1e3:.0f} ms of processor time.\n"]
    lines += [f"| command | {' | '.join(f'{c}, ms | x' for c in columns)} |", "|---" * (1 + 2 * len(columns)) + "|"]
    for name, measured in found.items():
        cells = [f"{1e3 * (m := statistics.median(s)):.0f} | {m / bare:.1f}" if s else "|" for s in measured.values()]
        lines.append(f"| `adaptr {name.partition(' (')[0]}`{said(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def said(name: str) -> str:
    return f" ({name.partition(' (')[2]}" if "(" in name else ""


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, [Path(one).resolve() for one in sys.argv[2:]])
