"""What became of an adapter that was written at other ranks, or as another method."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from adaptr.report import Report


@dataclass(frozen=True)
class Fitted:
    """One target. `norm`: ‖D‖, Frobenius. `error`: ‖D - B A‖ / ‖D‖."""

    path: str
    rank: int
    norm: float
    error: float


@dataclass(frozen=True)
class RankReport(Report):
    """What `resize` and `convert --method` did.

    `exact`: the delta is the same but for rounding. `error`: ‖D - B A‖ / ‖D‖ over all targets together, `worst` the
    targets in which it is largest. `ranks`: rank to number of targets. `numbers_before`, `numbers`: of all tensors.
    """

    source: str
    out: str
    format: str
    method_before: str
    method: str
    targets: int
    exact: bool
    error: float
    worst: tuple[Fitted, ...]
    ranks: dict[int, int]
    numbers_before: int
    numbers: int
    biases: int
    replaced: tuple[str, ...]
    lost: tuple[str, ...]
    digest: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def total_error(fitted: Iterable[Fitted]) -> float:
    """The relative error of all targets together."""
    found = list(fitted)
    whole = sum(f.norm**2 for f in found)
    return math.sqrt(sum((f.error * f.norm) ** 2 for f in found) / whole) if whole else 0.0


def worst(fitted: Iterable[Fitted], number: int = 5) -> tuple[Fitted, ...]:
    """The targets with the largest errors, none that has none."""
    found = sorted(fitted, key=lambda f: (-f.error, f.path))
    return tuple(f for f in found[:number] if f.error > 0)


def ranks(fitted: Iterable[Fitted]) -> dict[int, int]:
    return dict(sorted(Counter(f.rank for f in fitted).items()))
