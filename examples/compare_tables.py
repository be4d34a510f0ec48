"""What `compare.py` measured, as the tables of `docs/choosing.md`, which `docs/generate.py` puts there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

LINES = Path(__file__).with_name("compare.jsonl")
#: The lines of one way, by seed.
Ways = Mapping[str, Mapping[int, Mapping[str, Any]]]

BASE, REFERENCE = "base", "lora r=16"
#: What starts from a base in fewer bits, and what that base is worth, which it measured before it trained.
QUANTIZED, BASE_QUANTIZED = "qlora r=16", "base in nf4"
#: Settings that all cells share, so that their figures may stand side by side.
SETTINGS = ("steps", "batch", "length", "document", "forgetting")
#: How far the base may be from itself: the order of sums in a batch.
ROUNDING = 1e-3

METHODS = (BASE, "in context", "full", REFERENCE, "dora r=16", "ia3", BASE_QUANTIZED, QUANTIZED)
RANKS = tuple(f"lora r={r}" for r in (1, 2, 4, 8, 16, 32, 64))
SCALES = (
    "lora alpha=8",
    REFERENCE,
    "lora alpha=32",
    "lora alpha=64",
    "lora r=64",
    "rslora r=64, alpha=4",
    "rslora r=64",
)
TARGETS = ("lora q, v", "lora attention", REFERENCE)
COLUMNS = (
    "loss",
    "gain",
    f"beside {REFERENCE}",
    "forgotten, %",
    "parameters",
    "CPU s a step",
    "peak MB",
    "Wh",
    "seeds",
)


def read(file: Path = LINES) -> Ways:
    """Raises `ValueError` where cells were measured with different settings, or on another base or other data."""
    found: dict[str, dict[int, Any]] = {}
    for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        found.setdefault(line["cell"]["name"], {})[line["cell"]["seed"]] = line
    _require_alike([line for way in found.values() for line in way.values()], found[BASE])
    bare = {seed: {**line["before"], "parameters": 0} for seed, line in found.get(QUANTIZED, {}).items()}
    return {**found, **({BASE_QUANTIZED: bare} if bare else {})}


def _require_alike(lines: Sequence[Mapping[str, Any]], bases: Mapping[int, Mapping[str, Any]]) -> None:
    if len({tuple(line["cell"][name] for name in SETTINGS) for line in lines}) > 1:
        raise ValueError(f"the cells were run with different {', '.join(SETTINGS)}")
    for line in lines:
        cell, before = line["cell"], line.get("before")
        if before and cell["base_quant"] == "none" and abs(before["loss"] - bases[cell["seed"]]["loss"]) > ROUNDING:
            raise ValueError(f"`{cell['name']}`, seed {cell['seed']}, was measured on another base or other records")


# ---------------------------------------------------------------- figures, by seed


def gains(ways: Ways, name: str) -> dict[int, float]:
    """How much less the loss is than that of the base on the same records, in nats a token."""
    return {seed: ways[BASE][seed]["loss"] - line["loss"] for seed, line in ways[name].items()}


def beside(ways: Ways, name: str) -> dict[int, float]:
    """How much more a way gains than the reference, on the same records."""
    reference = gains(ways, REFERENCE)
    return {seed: gain - reference[seed] for seed, gain in gains(ways, name).items() if seed in reference}


def forgotten(ways: Ways, name: str) -> dict[int, float]:
    """By how many percent the perplexity of the second text rose."""
    of_base = known(ways[BASE], "perplexity")
    return {seed: 100 * (now / of_base[seed] - 1) for seed, now in known(ways[name], "perplexity").items()}


# ---------------------------------------------------------------- tables


def tables(file: Path = LINES) -> dict[str, str]:
    """Markdown by the name of its block."""
    ways = read(file)
    return {
        "compared-methods": table(ways, METHODS),
        "compared-ranks": table(ways, RANKS),
        "compared-scales": table(ways, SCALES),
        "compared-targets": table(ways, TARGETS),
    }


def table(ways: Ways, names: Iterable[str]) -> str:
    """A row a way; what was measured of none, as energy on most machines, has no column."""
    there = [name for name in names if name in ways]
    alike = on_same(ways, there)
    lines = [("", *COLUMNS), *((name, *row(alike, name)) for name in there)]
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    head, *rows = zip(*columns, strict=True)
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rows])


def on_same(ways: Ways, names: Iterable[str]) -> Ways:
    """Of some ways only the seeds that all of them have: on other records everybody's loss is another."""
    seeds = set.intersection(*(set(ways[name]) for name in names))
    return {**ways, **{name: {seed: ways[name][seed] for seed in sorted(seeds)} for name in names}}


def row(ways: Ways, name: str) -> list[str]:
    lines = ways[name].values()
    steps, peaks = (known(ways[name], figure).values() for figure in ("step_seconds", "peak_mb"))
    return [
        f"{mean(line['loss'] for line in lines):.3f}",
        "" if name == BASE else spread(gains(ways, name), ".3f"),
        "" if name in (BASE, REFERENCE) else spread(beside(ways, name), "+.3f"),
        "" if name == BASE else spread(forgotten(ways, name), "+.1f") or "0",
        f"{next(iter(lines))['parameters']:,}",
        f"{median(steps):.1f}" if steps else "",
        f"{median(peaks):,.0f}" if peaks else "",
        spread(known(ways[name], "watt_hours"), ".2g"),
        str(len(lines)),
    ]


def known(way: Mapping[int, Mapping[str, Any]], figure: str) -> dict[int, float]:
    """A figure by seed, where it was measured."""
    return {seed: line[figure] for seed, line in way.items() if line.get(figure) is not None}


def spread(by_seed: Mapping[int, float], form: str) -> str:
    """Mean and standard deviation over the seeds, if there are several."""
    values = list(by_seed.values())
    if not values:
        return ""
    more = f" ± {stdev(values):{form.lstrip('+')}}" if len(values) > 1 else ""
    return f"{mean(values):{form}}{more}"
