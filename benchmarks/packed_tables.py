"""What `packed.py` and `packed_costs.py` measured, as the tables of `docs/quantised-models.md`, which
`docs/generate.py` puts there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

LINES = Path(__file__).with_name("packed.jsonl")

Line = Mapping[str, Any]
#: A column: its head, and what of a line stands in it.
Columns = Sequence[tuple[str, Callable[[Line], str]]]

#: What QLoRA's paper gives for models of 125M to 13B on another text (arXiv:2305.14314, table 2).
PAPER = {
    "int4": 34.34, "fp4 (E2M1)": 31.07, "fp4 (E3M0)": 29.48, "nf4 with double quantisation": 27.41
}  # fmt: skip
WAYS = {
    "attached": "base, adapter attached",
    "base": "base without it",
    "floats": "merged, to floats",
    "packed": "merged, `--packed`",
    "packed + 8": "and `--compensate --rank 8`",
    "packed + 16": "and `--compensate --rank 16`",
    "peft": "PEFT, `merge_and_unload`",
    "peft evaluated": "PEFT, after a forward",
    "peft packed for the processor": "PEFT, packed for the processor",
}


def figure(name: str, form: str, times: float = 1) -> Callable[[Line], str]:
    return lambda line: f"{times * line[name]:{form}}" if name in line else ""


def percent(name: str) -> Callable[[Line], str]:
    return figure(name, ".3g", 100)


WORTH: Columns = (
    ("base", lambda line: line["scheme"]),
    ("what", lambda line: WAYS[line["way"]]),
    ("MB", figure("bytes", ".0f", 1e-6)),
    ("survived, %", percent("survived")),
    ("left over, %", percent("left")),
    ("logits off by, %", percent("logits")),
    ("loss of answers", figure("answers", ".3f")),
    ("perplexity", figure("perplexity", ".2f")),
    ("CPU s", figure("cpu", ".1f")),
    ("peak MB", figure("peak_mb", ".0f")),
)
SPEED: Columns = (
    ("base", lambda line: line["scheme"]),
    ("to", lambda line: line["way"]),
    ("CPU s", figure("cpu", ".2f")),
    ("from, to", lambda line: f"{line['cpu from']:.2f}, {line['cpu to']:.2f}"),
    ("wall s", figure("seconds", ".1f")),
    ("from, to ", lambda line: f"{line['seconds from']:.1f}, {line['seconds to']:.1f}"),
    ("peak MB", figure("peak_mb", ".0f")),
)
TYPES: Columns = (
    ("linear layers in", lambda line: line["type"]),
    ("their error, %", percent("error")),
    ("perplexity", figure("perplexity", ".1f")),
    ("the paper's", lambda line: str(PAPER.get(line["type"], ""))),
)
TRAINING: Columns = (
    ("what", lambda line: line["way"]),
    ("CPU s a step", figure("cpu", ".1f")),
    ("peak MB", figure("peak_mb", ".0f")),
)


def tables(file: Path = LINES) -> dict[str, str]:
    """Markdown by the name of its block."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    merges = [line for line in lines if line["table"] == "merge"]
    trained = [line for line in merges if line["adapter"] == "trained x 1"]
    return {
        "packed-worth": table(WORTH, (line for line in trained if "peft" not in line["way"])),
        "packed-sizes": sizes(merges),
        "packed-types": table(TYPES, of(lines, "types")),
        "packed-training": table(TRAINING, of(lines, "training")),
        "packed-speed": table(SPEED, of(lines, "speed")),
        "packed-about": about(lines),
    }


def of(lines: Iterable[Line], name: str) -> list[Line]:
    return [line for line in lines if line["table"] == name]


def sizes(merges: Sequence[Line]) -> str:
    """A row a base and a way, a column an adapter: what survived, and what is left over."""
    adapters = list(dict.fromkeys(line["adapter"] for line in merges))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for line in merges:
        if "survived" in line and line["way"] != "base":
            cell = f"{100 * line['survived']:.3g} / {100 * line['left']:.3g}"
            rows.setdefault((line["scheme"], line["way"]), {})[line["adapter"]] = cell
    columns: Columns = [
        ("base", lambda line: line["scheme"]),
        ("what", lambda line: WAYS[line["way"]]),
        *((name, lambda line, name=name: line.get(name, "")) for name in adapters),
    ]
    return table(columns, [{"scheme": scheme, "way": way, **cells} for (scheme, way), cells in rows.items()])


def about(lines: Sequence[Line]) -> str:
    """When and with what."""
    days = sorted({line["date"] for line in lines})
    found = {name: sorted({line[name] for line in lines}) for name in ("torch", "transformers", "peft", "bitsandbytes")}
    said = ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())
    return f"Measured {' to '.join(dict.fromkeys((days[0], days[-1])))}; Python {lines[0]['python']}, {said}.\n"


def table(columns: Columns, lines: Iterable[Line]) -> str:
    """What no line has is no column."""
    rows = [[cell(line) for _, cell in columns] for line in lines]
    there = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    every = [[columns[i][0] for i in there], ["---"] * len(there), *([row[i] for i in there] for row in rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in every)


if __name__ == "__main__":
    print("\n".join(tables().values()))
