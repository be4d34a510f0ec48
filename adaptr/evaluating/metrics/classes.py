"""Answers that are the name of a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from adaptr.evaluating.metrics.base import Mean, OfSums, ratio

if TYPE_CHECKING:
    from adaptr.evaluating.metrics.base import Array


class Accuracy(Mean):
    name = "accuracy"
    summary = "share of answers that are right"
    takes = "class"

    def worth(self, predicted: object, wanted: object) -> float:
        return float(predicted == wanted)


class _F1(OfSums):
    """Kept of a record: for each class whether it is rightly, wrongly and in vain not said."""

    def rows(self, predicted: Sequence[Any], wanted: Sequence[Any]) -> Array:
        import numpy as np

        classes = {name: i for i, name in enumerate(sorted({*predicted, *wanted}, key=str))}
        said, right = (np.eye(len(classes))[[classes[c] for c in column]] for column in (predicted, wanted))
        return np.concatenate([said * right, said * (1 - right), (1 - said) * right], axis=1)


class MacroF1(_F1):
    name = "f1"
    summary = "mean over the classes that occur of 2 tp / (2 tp + fp + fn)"
    takes = "class"

    def figure(self, sums: Array) -> Array:
        import numpy as np

        each = _f1(*np.split(sums, 3, axis=1))
        present = ~np.isnan(each)
        return ratio(np.where(present, each, 0.0).sum(1), present.sum(1).astype(np.float64))


class MicroF1(_F1):
    name = "f1_micro"
    summary = "2 tp / (2 tp + fp + fn) over all classes together"
    takes = "class"

    def figure(self, sums: Array) -> Array:
        import numpy as np

        return _f1(*(part.sum(1) for part in np.split(sums, 3, axis=1)))


def _f1(right: Array, wrong: Array, missed: Array) -> Array:
    return ratio(2 * right, 2 * right + wrong + missed)
