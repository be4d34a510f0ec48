"""A training as one page: curves, what it is worth, what changed where, answers before and after, how to repeat it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptr.cli import html
from adaptr.cli.page import split

if TYPE_CHECKING:
    from adaptr.training.report import TrainingReport


def page(report: TrainingReport) -> str:
    """The page. The same report gives the same text."""
    return html.filled("train", _data(report))


def _data(report: TrainingReport) -> Mapping[str, Any]:
    return {
        "name": os.path.basename(report.out),
        "about": _about(report),
        "facts": {
            "learned": report.parameters,
            "share": html.short(report.parameters / report.parameters_of_base),
            "steps": report.steps,
            "tokens": report.tokens,
            "bytes": report.bytes,
            "seconds": html.short(report.seconds),
        },
        "curves": _curves(report),
        "worth": _worth(report),
        "measured": f"{report.measured_on} records of the "
        + ("validation data" if report.held_out else "training data"),
        "held": report.held_out,
        "moved": _moved(report.moved),
        "samples": [vars(sample) for sample in report.samples],
        "statistics": _pairs(report.statistics),
        "recipe": _pairs(report.recipe),
        "made": [*_digests(report), *([name, version] for name, version in report.versions.items())],
        "notes": list(report.notes),
        "command": report.command,
    }


def _about(report: TrainingReport) -> str:
    base = os.path.basename(os.path.abspath(report.base))
    machine = f"{report.device}, {report.dtype}" + (f", {report.processes} processes" if report.processes > 1 else "")
    return f"{report.method} for {report.task} on {base} ({report.architecture}), {report.targets} targets; {machine}"


def _curves(report: TrainingReport) -> Mapping[str, Any]:
    found = report.curves
    rows = zip(found.steps, found.loss, found.rate, found.norm, found.speed, strict=True)
    return {
        "points": [[step, *map(_digits, rest)] for step, *rest in rows],
        "measured": [[step, html.short(loss)] for step, loss in found.measured],
    }


def _worth(report: TrainingReport) -> list[list[Any]]:
    """Figure, base, adapter; those of the second text are what was forgotten."""
    pairs = ((report.before, report.after, False), (report.second_before, report.second_after, True))
    return [
        [name, _digits(value), _digits(after.get(name)), second]
        for before, after, second in pairs
        for name, value in before.items()
    ]


def _digits(value: float | None) -> float | None:
    return None if value is None else html.short(value)


def _moved(moved: Mapping[str, float]) -> list[Mapping[str, Any]]:
    places = split(list(moved))
    return [
        {"path": path, "layer": layer, "module": module, "norm": html.short(norm)}
        for (path, norm), (layer, module) in zip(moved.items(), places, strict=True)
    ]


def _digests(report: TrainingReport) -> list[list[str]]:
    data = [[f"digest of {name}", digest] for name, digest in report.data.items()]
    return [["digest of the adapter", report.digest], ["digest of the recipe", report.recipe_digest], *data]


def _pairs(values: Mapping[str, object]) -> list[list[str]]:
    """What is said at all, as people read it."""
    return [
        [name.replace("_", " "), _text(value)] for name, value in values.items() if value not in (None, "", [], (), {})
    ]


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(one)}" for name, one in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)
