"""What was measured as one page: a bar with its interval for each model, gain and forgetting, and all figures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from adaptr.cli import html
from adaptr.evaluating.bootstrap import Interval
from adaptr.evaluating.report import EvalReport

#: What a second text's perplexity is called among the figures.
SECOND = "perplexity of the second text"


def page(report: EvalReport) -> str:
    """The page. The same report gives the same text."""
    return html.filled("eval", _data(report))


def _data(report: EvalReport) -> Mapping[str, Any]:
    second = bool(report.second)
    return {
        "base": os.path.basename(os.path.abspath(report.base)),
        "about": _about(report),
        "notes": list(report.notes),
        "metrics": [{"name": name, "rising": more} for name, more in report.metrics.items()]
        + ([{"name": SECOND, "rising": False}] if second else []),
        "adapters": [[a["name"], a["method"], str(a["weight"]), a["digest"]] for a in report.adapters],
        "intervals": f"{report.confidence:.0%} intervals by {report.resamples} resamples of the records, seed "
        f"{report.seed}."
        if report.resamples
        else "",
        "rows": [
            {
                "name": row.name,
                "values": {**_said(row.values), **({SECOND: _one(row.second)} if row.second else {})},
                "gain": {**_said(row.gain), **({SECOND: _one(row.forgotten)} if row.forgotten else {})},
            }
            for row in report.rows
        ],
    }


def _about(report: EvalReport) -> str:
    cut = f", {report.cut} of them cut at {report.length} tokens" if report.cut else ""
    return f"{report.task}: {report.records} records{cut}; {report.architecture} in {report.dtype}"


def _said(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: _one(found) for name, found in intervals.items()}


def _one(found: Interval) -> list[float | None]:
    return [None if value is None else html.short(value) for value in (found.value, found.low, found.high)]
