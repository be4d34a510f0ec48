"""What a search found, as a value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptr.composing.compose import ComposeReport, Composition
from adaptr.evaluating.bootstrap import Interval
from adaptr.report import Report
from adaptr.tuning.trial import Trial

#: What the bare base and the composed adapter are called among the models.
BASE, RESULT = "base", "result"


@dataclass(frozen=True)
class Compared:
    """One model. `tuned`: its loss on the records that were chosen by; `held`: on those that were not, None where there
    are none.
    """

    name: str
    tuned: float | None
    held: Interval | None


@dataclass(frozen=True)
class TuneReport(Report):
    """`composed`: of the result. `labels`: of the inputs. `best`: the number of the best trial. `live`: whether trials
    only changed strengths. `records`, `held`: how many were chosen by, and held out. `over_base`, `over_single`: the
    result's loss above the base's, and above that of the best single input, `single`, on the records held out (on those
    chosen by, where none are).
    """

    composed: ComposeReport
    labels: tuple[str, ...]
    space: tuple[Mapping[str, Any], ...]
    trials: tuple[Trial, ...]
    best: int
    live: bool
    resumed: int
    task: str
    records: int
    held: int
    models: tuple[Compared, ...]
    single: str
    over_base: Interval | None
    over_single: Interval | None
    notes: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "trials": [trial.as_dict() for trial in self.trials]}

    def name(self, trial: Trial) -> str:
        """What a trial is called: an input alone by its label."""
        return trial.called if trial.alone is None else f"{self.labels[trial.alone]} alone"

    def said(self, number: int) -> str:
        """What a trial was, in words."""
        trial = self.trials[number]
        said = ", ".join(f"{self.called(name)} {_number(value)}" for name, value in trial.values.items())
        name = self.name(trial)
        return f"{name}: {said}" if name and said and trial.alone is None else name or said

    def called(self, name: str) -> str:
        """A value as people call it: the weight of an input by its label."""
        kind, _, number = name.partition(" ")
        return self.labels[int(number) - 1] if kind == "weight" and number.isdigit() else name


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Tuned:
    """The composed adapter, what is to be said of it and of the search."""

    composition: Composition
    report: TuneReport

    def saved(self, out: Path, force: bool = False) -> Tuned:
        """The same, written to a file."""
        written = self.composition.saved(out, force)
        return Tuned(written, dataclasses.replace(self.report, composed=written.report))
