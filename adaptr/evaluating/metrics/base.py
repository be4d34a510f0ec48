"""`Metric`: what is kept of each record, and one figure of any choice of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float64]]


class Metric(ABC):
    """What answers are worth. A figure is made of how often each record counts, so that one measurement gives the
    figure of every resample: `score(counts, rows)`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    #: Whether more of it is better.
    rising: ClassVar[bool] = True
    #: What it takes: names of classes, texts, numbers, or lists of tags.
    takes: ClassVar[Literal["class", "text", "number", "tags"]]

    @abstractmethod
    def rows(self, predicted: Sequence[Any], wanted: Sequence[Any]) -> Array:
        """What is kept of each record (n, k). Raises `MissingExtra` without the library."""

    @abstractmethod
    def score(self, counts: Array, rows: Array) -> Array:
        """The figure (b) of each line of `counts` (b, n): how often each record counts. NaN where there is none."""


class OfSums(Metric):
    """A metric whose figure follows from sums over the records."""

    def score(self, counts: Array, rows: Array) -> Array:
        return self.figure(counts @ rows)

    @abstractmethod
    def figure(self, sums: Array) -> Array:
        """The figure (b) of sums (b, k)."""


class Mean(OfSums):
    """A metric whose figure is the mean over the records: `worth` says what one answer is worth."""

    def rows(self, predicted: Sequence[Any], wanted: Sequence[Any]) -> Array:
        import numpy as np

        worth = [self.worth(*pair) for pair in zip(predicted, wanted, strict=True)]
        return np.stack([np.array(worth, dtype=np.float64), np.ones(len(worth))], axis=1)

    @abstractmethod
    def worth(self, predicted: object, wanted: object) -> float: ...

    def figure(self, sums: Array) -> Array:
        return ratio(sums[:, 0], sums[:, 1])


def ratio(above: Array, below: Array) -> Array:
    """`above / below`, NaN where that is divided by 0."""
    import numpy as np

    return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def references(wanted: object) -> list[str]:
    """The right answers, of which one is enough: of one text that one."""
    return [str(one) for one in wanted] if isinstance(wanted, list | tuple) else [str(wanted)]
