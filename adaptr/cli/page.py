"""A diff as one page that needs nothing but itself: heat maps, spectra and a table."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptr.cli import html
from adaptr.diffing.report import DiffReport, TargetDiff

LAYER = re.compile(r"(?<=\.)(\d+)(?=\.|$)|^(\d+)(?=\.)")


def write(report: DiffReport, path: Path, force: bool = False) -> None:
    """Write the page of a report."""
    html.write(page(report), path, force)


def page(report: DiffReport) -> str:
    """The page. The same report gives the same text."""
    return html.filled("diff", _data(report))


def _data(report: DiffReport) -> Mapping[str, Any]:
    found = report.interference
    places = split([target.path for target in report.targets])
    return {
        "a": os.path.basename(os.path.abspath(report.a)),
        "b": os.path.basename(os.path.abspath(report.b)),
        "labels": [report.a, report.b],
        "verdict": report.verdict,
        "words": list(found.words) if found else [],
        "notes": [*report.notes, f"Signs: {report.rows} sampled rows a target, seed {report.seed}."],
        "header": [[field.name, _text(field.a), _text(field.b)] for field in report.header],
        "others": [[o.path, o.what, o.state, _short(o.difference)] for o in report.others],
        "targets": [
            {**_figures(t), "layer": layer, "module": module}
            for t, (layer, module) in zip(report.targets, places, strict=True)
        ],
    }


def split(paths: list[str]) -> list[tuple[int | None, str]]:
    """(layer number, what is left of the path) of each path, what all of them begin with taken off."""
    found = []
    for path in paths:
        hit = LAYER.search(path)
        rest = path if hit is None else f"{path[: hit.start()]}*{path[hit.end() :]}"
        found.append((None if hit is None else int(hit[0]), rest))
    numbered = [rest for layer, rest in found if layer is not None]
    heads = {rest[: rest.find("*.") + 2] for rest in numbered}
    head = heads.pop() if len(heads) == 1 else ""
    return [(layer, rest.removeprefix(head) if layer is not None else rest) for layer, rest in found]


def _figures(target: TargetDiff) -> dict[str, Any]:
    return {name: _short(value) for name, value in vars(target).items() if name not in {"inner"}}


def _short(value: object) -> object:
    if isinstance(value, float):
        return html.short(value)
    return [_short(v) for v in value] if isinstance(value, tuple) else value


def _text(value: object) -> str:
    return "-" if value is None else str(value)
