"""Metrics by name, as tasks and `--metric` name them. The loss, and perplexity of tokens, are always there."""

from __future__ import annotations

import difflib

from adaptr.errors import UsageError
from adaptr.evaluating.metrics import classes, numbers, tags, texts
from adaptr.evaluating.metrics.base import Metric

_ALL: tuple[type[Metric], ...] = (
    classes.Accuracy,
    classes.MacroF1,
    classes.MicroF1,
    texts.ExactMatch,
    texts.SquadExact,
    texts.SquadF1,
    texts.Rouge1,
    texts.Rouge2,
    texts.RougeL,
    texts.Bleu,
    texts.WordErrors,
    tags.EntityF1,
    tags.TagAccuracy,
    numbers.SquaredError,
    numbers.Pearson,
    numbers.Spearman,
)
#: Name to metric.
METRICS: dict[str, Metric] = {each.name: each() for each in _ALL}


def get(name: str) -> Metric:
    """The metric of that name. Raises `UsageError`, with near names."""
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=1)
        raise UsageError(
            f"there is no metric `{name}`",
            hint=f"did you mean `{near[0]}`?" if near else f"it is one of {', '.join(METRICS)}",
        )
    return METRICS[name]
