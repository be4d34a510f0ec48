"""How sure a figure is: the same of records drawn again and again with replacement.  Efron 1979; percentiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.errors import UsageError

if TYPE_CHECKING:
    from adaptr.evaluating.metrics.base import Array

#: From how often each record counts (b, n) to the figure (b) of each line.
Figure = Callable[["Array"], "Array"]
#: Numbers of a block of resamples.
BLOCK = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A figure and between which two it lies; None where there is none, as of one record alone."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def sure(self) -> bool:
        """Whether it is on one side of 0 all through."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Bootstrap:
    """`times`: how often records are drawn. The same seed draws the same records for everything that is measured on as
    many, so that a difference is that of pairs.
    """

    times: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.times < 0:
            raise UsageError("the number of resamples", got=self.times, want="0 for none, or more")
        if not 0 < self.confidence < 1:
            raise UsageError("the confidence", got=self.confidence, want="above 0 and below 1")

    def interval(self, figure: Figure, n: int) -> Interval:
        """The figure of `n` records. Resamples that have none (of one class alone, say) are left out."""
        import numpy as np

        value = _said(figure(np.ones((1, n)))[0])
        if value is None or n < 2 or not self.times:
            return Interval(value)
        found = np.concatenate([figure(counts) for counts in self._counts(n)])
        found = found[np.isfinite(found)]
        if not len(found):
            return Interval(value)
        rest = (1 - self.confidence) / 2
        low, high = np.quantile(found, [rest, 1 - rest])
        return Interval(value, float(low), float(high))

    def gain(self, figure: Figure, before: Figure, n: int) -> Interval:
        """What `figure` is above `before`, on the same records."""
        return self.interval(lambda counts: figure(counts) - before(counts), n)

    def _counts(self, n: int) -> Iterator[Array]:
        """How often each record is drawn (b, n), a block at a time."""
        import numpy as np

        draw = np.random.Generator(np.random.PCG64(self.seed))
        step = max(1, BLOCK // n)
        for start in range(0, self.times, step):
            size = min(step, self.times - start)
            yield draw.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)


def _said(value: float) -> float | None:
    import math

    return float(value) if math.isfinite(value) else None
