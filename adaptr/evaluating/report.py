"""What was measured of a base and its adapters, as a value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adaptr.evaluating.bootstrap import Interval
from adaptr.report import Report

#: What the bare base, and all adapters at once, are called among the rows.
BASE, TOGETHER = "base", "together"


@dataclass(frozen=True)
class Row:
    """One model. `adapters`: names of those that are attached; `values`: each figure; `gain`: what it is above the
    base's, on the same records; `second`, `forgotten`: the same of a second text, by perplexity.
    """

    name: str
    adapters: tuple[str, ...]
    values: Mapping[str, Interval]
    gain: Mapping[str, Interval] = field(default_factory=dict)
    second: Interval | None = None
    forgotten: Interval | None = None


@dataclass(frozen=True)
class EvalReport(Report):
    """`metrics`: figures in the order in which they are shown, and whether more of each is better. `records`, `cut`,
    `tokens`: of the data; how many records were too long, and by how much. `data`, `second`: digests.
    """

    base: str
    architecture: str
    task: str
    dtype: str
    length: int
    adapters: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, bool]
    records: int
    cut: int
    tokens: int
    data: str
    second: str
    resamples: int
    confidence: float
    seed: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
