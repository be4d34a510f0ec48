"""A search as one page: each trial's loss, what it tried, and the result beside what it was made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from adaptr.cli import html
from adaptr.evaluating.bootstrap import Interval
from adaptr.tuning.report import TuneReport


def page(report: TuneReport) -> str:
    """The page. The same report gives the same text."""
    return html.filled("tune", _data(report))


def _data(report: TuneReport) -> Mapping[str, Any]:
    return {
        "out": os.path.basename(report.composed.out) or "composition",
        "about": f"{report.composed.strategy} of {len(report.labels)} adapters, {report.task}: "
        f"{report.records} records to choose by, {report.held} held out",
        "best": report.best + 1,
        "names": list(dict.fromkeys(report.called(n) for trial in report.trials for n in trial.values)),
        "trials": [
            {
                "number": number,
                "loss": None if trial.loss is None else html.short(trial.loss),
                "called": report.name(trial),
                "said": report.said(number - 1),
                "values": {report.called(name): _short(value) for name, value in trial.values.items()},
            }
            for number, trial in enumerate(report.trials, 1)
        ],
        "models": [
            {"name": m.name, "tuned": None if m.tuned is None else html.short(m.tuned), "held": _interval(m.held)}
            for m in report.models
        ],
        "notes": list(report.notes),
    }


def _short(value: object) -> object:
    return html.short(value) if isinstance(value, float) else value


def _interval(found: Interval | None) -> list[float | None]:
    ends = (None, None, None) if found is None else (found.value, found.low, found.high)
    return [None if value is None else html.short(value) for value in ends]
