"""What a diff says, as values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from adaptr.report import Report

State = Literal["same", "changed", "only a", "only b"]


@dataclass(frozen=True)
class Field:
    """A field of the header that differs; None where one side does not have it."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class TargetDiff:
    """Two changes D_a and D_b of one weight.

    Norms are Frobenius. `rank_*`: numerical; `effective_*`: exp of the entropy of the singular values (Roy and Vetterli
    2007). `spectrum_*`: singular values, falling; of a stack of experts, their root mean square. `angles_in`,
    `angles_out`: principal angles in degrees, rising, between what both read (row spaces) and write (column spaces);
    `overlap_*`: the mean of their squared cosines. `conflicts`: share of sampled entries with opposite signs.
    `on_a`: ‖D_b Π_a‖ / ‖D_a‖ with Π_a the projector on what `a` reads; `on_b` the same the other way round.
    `cut`: relative error of D_a + D_b at the larger of both ranks. `relative_*`: ‖D‖ / ‖W‖, `intruders_*`: intruder
    dimensions, both only with a base. `approximation`: the larger relative error of the factors that the spectra,
    angles and what follows from them were computed on; 0 where they are exact. None: not defined, or not asked for.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    state: State
    norm_a: float = 0.0
    norm_b: float = 0.0
    difference: float = 0.0
    inner: float = 0.0
    cosine: float | None = None
    rank_a: int = 0
    rank_b: int = 0
    effective_a: float = 0.0
    effective_b: float = 0.0
    effective_sum: float = 0.0
    spectrum_a: tuple[float, ...] = ()
    spectrum_b: tuple[float, ...] = ()
    spectrum_sum: tuple[float, ...] = ()
    angles_in: tuple[float, ...] = ()
    angles_out: tuple[float, ...] = ()
    overlap_in: float | None = None
    overlap_out: float | None = None
    conflicts: float | None = None
    on_a: float | None = None
    on_b: float | None = None
    cut: float | None = None
    relative_a: float | None = None
    relative_b: float | None = None
    intruders_a: int | None = None
    intruders_b: int | None = None
    approximation: float = 0.0


@dataclass(frozen=True)
class Other:
    """A bias, norm or whole parameter that differs. `difference`: ‖a - b‖, None where they can't be subtracted."""

    path: str
    what: str
    state: State
    difference: float | None = None


@dataclass(frozen=True)
class Interference:
    """What composing both would do, over all targets. Figures are those of `TargetDiff`, summed in squares.

    `shared`: targets that both change. `kept`: ‖D_a + D_b‖² / (‖D_a‖² + ‖D_b‖²), below 1 where they cancel. `words`:
    the same in sentences. `worst`: paths where one disturbs the other most.
    """

    shared: int
    cosine: float | None
    kept: float | None
    on_a: float | None
    on_b: float | None
    conflicts: float | None
    cut: float | None
    worst: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class DiffReport(Report):
    """How `b` differs from `a`. `equal`: nothing differs, not even the header.

    `same_change`: both do the same to the weights, whatever they are stored as; None if the weights were not looked at,
    or what is done to them is not known without the base.
    `seed`, `rows`: which rows were sampled for signs, and how many a target.
    """

    a: str
    b: str
    equal: bool
    same_change: bool | None
    header: tuple[Field, ...]
    targets: tuple[TargetDiff, ...] = ()
    others: tuple[Other, ...] = ()
    interference: Interference | None = None
    seed: int = 0
    rows: int = 0
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def verdict(self) -> str:
        """One sentence: whether they are equal, and in what."""
        if self.equal:
            return "equal"
        if self.same_change is None:
            return "they hold other numbers" if self.others else "what they say of themselves differs"
        if not self.same_change:
            return "they differ"
        return f"the same {'change to the weights' if self.targets else 'tensors'}, said in another way"

    @property
    def counts(self) -> Mapping[str, int]:
        """How many targets are in each state."""
        found: dict[str, int] = {}
        for target in self.targets:
            found[target.state] = found.get(target.state, 0) + 1
        return found
