"""Answers that are a tag for each word."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from adaptr.errors import phrases
from adaptr.evaluating.metrics.base import OfSums, ratio

if TYPE_CHECKING:
    from adaptr.evaluating.metrics.base import Array


class EntityF1(OfSums):
    """Kept of a record: entities that are right, that are said and that there are."""

    name = "entity_f1"
    summary = "F1 of whole entities, type and both ends right, as seqeval counts them"
    takes = "tags"

    def rows(self, predicted: Sequence[Any], wanted: Sequence[Any]) -> Array:
        import numpy as np

        entities = _entities()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of each tag that is of no entity, as parts of speech are
            pairs = [(set(entities(list(p))), set(entities(list(w)))) for p, w in zip(predicted, wanted, strict=True)]
        return np.array([[len(p & w), len(p), len(w)] for p, w in pairs], dtype=np.float64)

    def figure(self, sums: Array) -> Array:
        return ratio(2 * sums[:, 0], sums[:, 1] + sums[:, 2])


class TagAccuracy(OfSums):
    name = "tag_accuracy"
    summary = "share of words whose tag is right"
    takes = "tags"

    def rows(self, predicted: Sequence[Any], wanted: Sequence[Any]) -> Array:
        import numpy as np

        pairs = zip(predicted, wanted, strict=True)
        return np.array([[sum(a == b for a, b in zip(p, w, strict=True)), len(w)] for p, w in pairs], dtype=np.float64)

    def figure(self, sums: Array) -> Array:
        return ratio(sums[:, 0], sums[:, 1])


def _entities() -> Callable[[list[str]], list[Any]]:
    try:
        from seqeval.metrics.sequence_labeling import get_entities
    except ImportError as error:
        raise phrases.extra("`entity_f1`", "seqeval", "eval") from error
    found: Callable[[list[str]], list[Any]] = get_entities
    return found
