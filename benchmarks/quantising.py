"""What quantising real adapters takes and costs: `python benchmarks/quantising.py ADAPTER...` prints Markdown.

Of each adapter (a file or folder of any format) first the bytes of its file and the declared error, the largest of a
target's change, in each scheme; then the bytes within each error, with one scheme a target, and with more bits for the
larger directions (`by_rank`). Bytes and errors are percent.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import adaptr
from adaptr import Adapter
from adaptr.errors import NotPossible
from adaptr.families.encoding import SCHEMES

T = TypeVar("T")

ERRORS = (0.005, 0.01, 0.02, 0.05, 0.1)


def size(adapter: Adapter) -> int:
    with tempfile.TemporaryDirectory() as folder:
        adaptr.save(adapter, out := Path(folder) / "a.safetensors")
        return out.stat().st_size


def in_scheme(adapter: Adapter, scheme: str) -> str:
    made = adaptr.quantize(adapter, scheme)
    return f"{100 * size(made) / size(adapter):.0f}: {100 * made.quantization['error']:.3g}"


def within(adapter: Adapter, error: float) -> str:
    return f"{_within(adapter, error, False)} / {_within(adapter, error, True)}"


def _within(adapter: Adapter, error: float, by_rank: bool) -> str:
    try:
        made = adaptr.quantize(adapter, error=error, by_rank=by_rank)
    except NotPossible:
        return "100"
    return f"{100 * size(made) / size(adapter):.0f}"


def table(adapters: Mapping[str, Adapter], columns: Sequence[T], cell: Callable[[Adapter, T], str]) -> None:
    print(f"\n| adapter | kB | {' | '.join(map(str, columns))} |\n|{'---|' * (2 + len(columns))}")
    for name, adapter in adapters.items():
        cells = " | ".join(cell(adapter, column) for column in columns)
        print(f"| {name} | {size(adapter) / 1000:.0f} | {cells} |", flush=True)


if __name__ == "__main__":
    found = {Path(place).name: adaptr.load(place).replace(foreign={}) for place in sys.argv[1:]}
    table(found, SCHEMES, in_scheme)
    table(found, ERRORS, within)
