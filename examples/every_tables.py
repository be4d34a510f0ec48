"""What `every.py` measured, as the tables of `docs/choosing.md`, which `docs/generate.py` puts there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from compare_tables import spread

LINES = Path(__file__).with_name("every.jsonl")
Line = Mapping[str, Any]
TASKS = ("reviews", "instructions")


@dataclass
class Way:
    """What one method came to: its lines by seed at its rate, those of PEFT, and why it has none."""

    method: str
    rate: float
    lines: dict[int, Line] = field(default_factory=dict)
    theirs: dict[int, Line] = field(default_factory=dict)
    refused: str = ""
    #: Why PEFT's own training is not held against it.
    apart: str = ""
    #: Whether all rates were tried.
    searched: bool = False

    def figures(self, name: str) -> dict[int, float]:
        return {seed: line[name] for seed, line in self.lines.items() if name in line}


def read(task: str, file: Path = LINES) -> dict[str, Way]:
    """By method, the base as "". Raises `ValueError` where cells had different budgets, or other records held out."""
    text = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    lines = [one for one in map(json.loads, text) if one["cell"]["task"] == task]
    if len({(*one["budget"].values(), one["data"]["valid"]) for one in lines if "budget" in one}) > 1:
        raise ValueError(f"cells of {task} were run with different budgets, or measured on different records")
    by_method: dict[str, list[Line]] = {}
    for one in lines:
        by_method.setdefault(one["cell"]["method"], []).append(one)
    return {method: _way(method, of) for method, of in sorted(by_method.items())}


def _way(method: str, lines: list[Line]) -> Way:
    trained = [one for one in lines if "late" in one]
    tried = [one for one in trained if one["cell"]["by"] == "adaptr" and one["cell"]["seed"] == 0]
    if not tried:
        return Way(method, 0.0, refused=lines[0].get("refused") or lines[0].get("diverged", ""))
    rate = min(tried, key=lambda one: one["late"])["cell"]["rate"]
    made = Way(method, rate, searched=len(tried) > 2)
    for one in trained:
        if one["cell"]["rate"] == rate:
            (made.lines if one["cell"]["by"] == "adaptr" else made.theirs)[one["cell"]["seed"]] = one
    refused = [one["refused"] for one in lines if one["cell"]["by"] == "PEFT" and "refused" in one]
    made.apart = refused[0] if refused else _otherwise(made)
    return made


def _otherwise(way: Way) -> str:
    """Why PEFT's lines, which are taken out, are of another training."""
    ours = {line["parameters"] for line in way.lines.values()}
    theirs = {line["parameters"] for line in way.theirs.values()}
    if theirs <= ours:
        return ""
    way.theirs.clear()
    return f"it trains {max(theirs - ours):,} numbers there, and {min(ours):,} here"


# ---------------------------------------------------------------- figures


def gains(way: Way, base: Way | None) -> dict[int, float]:
    """How much less the loss is than that of the base on the same records after the same training."""
    if base is None:
        return {seed: line["before"] - line["loss"] for seed, line in way.lines.items()}
    return {seed: base.lines[seed]["loss"] - line["loss"] for seed, line in way.lines.items() if seed in base.lines}


def clearly(gained: Mapping[int, float]) -> bool:
    """Whether it gains with every seed, and in the mean more than twice what seeds differ by; one seed says nothing."""
    values = list(gained.values())
    return len(values) > 1 and min(values) > 0 and mean(values) > 2 * stdev(values)


def apart(way: Way) -> dict[int, float]:
    """How much higher the loss is than after PEFT's own training from the same start."""
    return {seed: line["loss"] - way.theirs[seed]["loss"] for seed, line in way.lines.items() if seed in way.theirs}


# ---------------------------------------------------------------- tables

COLUMNS = (
    "", "rate", "trained", "loss", "accuracy, %", "gain", "clear", "loss - PEFT's", "CPU s a step", "MB", "kB stored",
    "seeds",
)  # fmt: skip


def tables(file: Path = LINES) -> dict[str, str]:
    """Markdown by the name of its block."""
    found = {task: ways for task in TASKS if (ways := read(task, file))}
    return {f"every-{what}-{task}": text for task, ways in found.items() for what, text in _of(ways)}


def _of(ways: Mapping[str, Way]) -> Iterator[tuple[str, str]]:
    base = ways.get("")
    rows = [row(way, base) for way in ways.values() if way.lines]
    rows.sort(key=lambda one: (one[0] != "base", one[0]))
    columns = [column for column in zip(COLUMNS, *rows, strict=True) if any(column[1:]) or not column[0]]
    head, *body = zip(*columns, strict=True)
    yield "trained", "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *body])
    refused = [f"- `{way.method}`: {way.refused}\n" for way in ways.values() if way.refused]
    apart = [f"- `{way.method}` by PEFT: {way.apart}\n" for way in ways.values() if way.apart]
    yield "refused", "".join([*refused, *apart]) or "none\n"


def row(way: Way, base: Way | None) -> list[str]:
    some = next(iter(way.lines.values()))
    gained = {} if not way.method else gains(way, base)
    return [
        f"`{way.method}`" if way.method else "base",
        f"{way.rate:g}" + ("" if way.searched else " (own)"),
        f"{some['parameters']:,}",
        spread(way.figures("loss"), ".3f"),
        spread({seed: 100 * value for seed, value in way.figures("accuracy").items()}, ".1f"),
        spread(gained, "+.3f"),
        "" if len(gained) < 2 else "yes" if clearly(gained) else "no",
        spread(apart(way), "+.4f"),
        f"{median(way.figures('step_seconds').values()):.2f}",
        f"{median(way.figures('peak_mb').values()):,.0f}",
        f"{some['bytes'] / 1e3:,.0f}",
        str(len(way.lines)),
    ]
