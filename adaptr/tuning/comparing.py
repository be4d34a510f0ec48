"""The result beside the base, each input alone and equal weights, on records that were not chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.evaluating.bootstrap import Bootstrap, Interval
from adaptr.evaluating.measure import LOSS, Measured
from adaptr.tuning.bench import Bench
from adaptr.tuning.report import BASE, RESULT, Compared
from adaptr.tuning.search import Search
from adaptr.tuning.trial import EQUAL, Trial

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

#: (loss on the records chosen by, measured on those held out) by the name of a model.
Models = Mapping[str, tuple[float, Measured]]


@dataclass(frozen=True)
class Comparison:
    """`single`: the best input alone, by the records chosen by; "" where none can be alone."""

    rows: tuple[Compared, ...]
    single: str
    over_base: Interval | None
    over_single: Interval | None
    notes: tuple[str, ...]


def others(search: Search, bench: Bench, trials: Sequence[Trial], labels: Sequence[str]) -> Models:
    """Base, equal weights and each input alone, measured on the records held out, or chosen by where none are."""
    records = (search.held or search.chosen).records
    found: dict[str, tuple[float, Measured]] = {}
    if not search.here.bare:
        found[BASE] = bench.bare(search.chosen.records).loss, bench.bare(records)
    for trial in trials:
        if trial.loss is None or not (trial.called == EQUAL or trial.alone is not None):
            continue
        name = trial.called if trial.alone is None else f"{labels[trial.alone]} alone"
        found[name] = trial.loss, bench.measured(bench.recipe(trial.values, trial.alone), records)
    return found


def compared(search: Search, made: Adapter, found: Models, best: Trial) -> Comparison:
    """Hold the composed adapter, as it is stored, against the others."""
    records = (search.held or search.chosen).records
    with search.here.attached({"made": (made, 1.0)}):
        tuned, own = search.here.measure(search.chosen.records).loss, search.here.measure(records)
    sure = Bootstrap(seed=search.recipe.seed)
    alone = {name: loss for name, (loss, _) in found.items() if name not in (BASE, EQUAL)}
    single = min(alone, key=lambda name: alone[name], default="")

    def over(name: str) -> Interval | None:
        return sure.gain(own.figure(LOSS), found[name][1].figure(LOSS), own.records) if name in found else None

    models = {**found, RESULT: (tuned, own)}
    rows = [Compared(name, loss, _held(search, other, sure)) for name, (loss, other) in models.items()]
    over_base, over_single = over(BASE), over(single)
    notes = (*_notes(search, best, single, over_base, over_single), *_fitted(search, rows))
    return Comparison(tuple(rows), single, over_base, over_single, notes)


def _held(search: Search, measured: Measured, sure: Bootstrap) -> Interval | None:
    return None if search.held is None else sure.interval(measured.figure(LOSS), measured.records)


def _notes(
    search: Search, best: Trial, single: str, over_base: Interval | None, over_single: Interval | None
) -> tuple[str, ...]:
    found = []
    if best.alone is not None:
        found.append(f"no mixture was better than {single}: the result is that one")
    elif over_single is not None and not _better(over_single):
        found.append(f"no gain over {single} beyond the interval: {_between(over_single)}")
    if over_base is not None and not _better(over_base):
        found.append(f"no gain over the bare base beyond the interval: {_between(over_base)}")
    if search.held is None:
        found.append("no records were held out: the figures are of those that were chosen by, and so too good")
    return tuple(found)


def _fitted(search: Search, rows: Sequence[Compared]) -> tuple[str, ...]:
    """Where something that was not searched for is better on the records held out: the search fitted the others."""
    held = {row.name: row.held.value for row in rows if row.held is not None and row.held.value is not None}
    first = min(held, key=lambda name: held[name], default=RESULT)
    if first == RESULT:
        return ()
    return (
        f"on the records held out `{first}` has the least loss, {held[first]:.4f} against the result's "
        f"{held[RESULT]:.4f}: {len(search.chosen.records)} records are too few to choose by, or of another kind",
    )


def _better(gain: Interval) -> bool:
    return gain.high is not None and gain.high < 0


def _between(gain: Interval) -> str:
    ends = "" if gain.low is None else f" [{gain.low:+.3g}, {gain.high:+.3g}]"
    return "none" if gain.value is None else f"{gain.value:+.3g}{ends} nats"
