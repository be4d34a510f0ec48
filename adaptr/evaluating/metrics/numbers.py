"""Answers that are numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from adaptr.evaluating.metrics.base import Metric, OfSums, ratio

if TYPE_CHECKING:
    from adaptr.evaluating.metrics.base import Array


class SquaredError(OfSums):
    name = "mse"
    summary = "mean of the squared differences"
    takes = "number"
    rising = False

    def rows(self, predicted: Sequence[Any], wanted: Sequence[Any]) -> Array:
        import numpy as np

        apart = np.array(predicted, dtype=np.float64) - np.array(wanted, dtype=np.float64)
        return np.stack([apart**2, np.ones(len(apart))], axis=1)

    def figure(self, sums: Array) -> Array:
        return ratio(sums[:, 0], sums[:, 1])


class Pearson(Metric):
    name = "pearson"
    summary = "how close the answers are to a straight line, -1 to 1"
    takes = "number"

    def rows(self, predicted: Sequence[Any], wanted: Sequence[Any]) -> Array:
        import numpy as np

        return np.array([predicted, wanted], dtype=np.float64).T

    def score(self, counts: Array, rows: Array) -> Array:
        return _correlation(counts, *(column[None] for column in rows.T))


class Spearman(Pearson):
    name = "spearman"
    summary = "the same of their ranks; those that are alike have the mean of theirs"

    def score(self, counts: Array, rows: Array) -> Array:
        return _correlation(counts, *(_ranks(counts, column) for column in rows.T))


def _ranks(counts: Array, column: Array) -> Array:
    """The rank (b, n) of each record among as many of each as are counted."""
    import numpy as np

    values, place = np.unique(column, return_inverse=True)
    many = counts @ np.eye(len(values))[place]
    return (many.cumsum(1) - (many - 1) / 2)[:, place]


def _correlation(counts: Array, x: Array, y: Array) -> Array:
    """Pearson's r (b) of x and y, (b, n) or (1, n), each pair as often as is counted; NaN where one does not vary."""
    import numpy as np

    total = counts.sum(1, keepdims=True)
    varies = _varies(counts, x) * _varies(counts, y)
    x, y = (v - (counts * v).sum(1, keepdims=True) / total for v in (x, y))
    spread = np.sqrt((counts * x * x).sum(1) * (counts * y * y).sum(1))
    return ratio((counts * x * y).sum(1), varies * spread)


def _varies(counts: Array, v: Array) -> Array:
    """1 where those that are counted are not all the same, else 0 (b): their mean may be rounded, and then they seem
    not to be.
    """
    import numpy as np

    least, most = (np.where(counts > 0, v, end) for end in (np.inf, -np.inf))
    found: Array = (least.min(1) < most.max(1)).astype(np.float64)
    return found
