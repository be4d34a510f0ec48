"""The tables of docs/quantised-models.md, from lines as `benchmarks/packed.py` writes them."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = {"python": "3.11", "torch": "2", "transformers": "5", "peft": "0", "bitsandbytes": "1", "date": "2026-01-02"}
tables: Callable[..., dict[str, str]] = runpy.run_path(str(ROOT / "benchmarks" / "packed_tables.py"))["tables"]


def merged(way: str, adapter: str, **figures: float) -> dict[str, Any]:
    return {"table": "merge", "scheme": "nf4", "adapter": adapter, "way": way, **figures}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    every = [
        merged("attached", "trained x 1", bytes=2e6),
        merged("base", "trained x 1", survived=0.0, left=1.0, bytes=1e6),
        merged("packed", "trained x 1", survived=0.125, left=0.5, bytes=1e6, cpu=1.25, peak_mb=300.4),
        merged("packed", "random 20%", survived=0.9, left=0.25),
        {"table": "types", "type": "fp4 (E2M1)", "error": 0.1, "perplexity": 30.0},
    ]
    file = tmp_path / "lines.jsonl"
    file.write_text("".join(json.dumps({**one, **VERSIONS}) + "\n" for one in every))
    return file


def test_a_row_a_way_with_the_columns_that_have_figures(lines: Path) -> None:
    assert tables(lines)["packed-worth"].splitlines() == [
        "| base | what | MB | survived, % | left over, % | CPU s | peak MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| nf4 | base, adapter attached | 2 |  |  |  |  |",
        "| nf4 | base without it | 1 | 0 | 100 |  |  |",
        "| nf4 | merged, `--packed` | 1 | 12.5 | 50 | 1.2 | 300 |",
    ]


def test_adapters_of_any_size_side_by_side(lines: Path) -> None:
    head, _, row = tables(lines)["packed-sizes"].splitlines()
    assert head == "| base | what | trained x 1 | random 20% |"
    assert row == "| nf4 | merged, `--packed` | 12.5 / 50 | 90 / 25 |"


def test_types_beside_the_papers(lines: Path) -> None:
    *_, row = tables(lines)["packed-types"].splitlines()
    assert row == "| fp4 (E2M1) | 10 | 30.0 | 31.07 |"


def test_when_and_with_what(lines: Path) -> None:
    said = tables(lines)["packed-about"]
    assert said == "Measured 2026-01-02; Python 3.11, torch 2, transformers 5, peft 0, bitsandbytes 1.\n"
