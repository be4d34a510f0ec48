"""Find what a composition leaves open by measuring it, then make it and look at it on records that were not used."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adaptr.adapter import Adapter
from adaptr.composing import recipe_file
from adaptr.composing.compose import composed, gathered, recipe_of
from adaptr.composing.recipe import Recipe
from adaptr.composing.tune import Tune
from adaptr.data import Data, split
from adaptr.errors import UsageError
from adaptr.evaluating import setting
from adaptr.evaluating.measure import Progress
from adaptr.evaluating.setting import Options
from adaptr.sources.given import One, Several, by_name, one
from adaptr.sources.open import placed, reads
from adaptr.sources.resolve import Place, grounded
from adaptr.tuning.bench import Live, bench
from adaptr.tuning.comparing import Comparison, compared, others
from adaptr.tuning.journal import SUFFIX, Journal
from adaptr.tuning.report import BASE, RESULT, Tuned, TuneReport
from adaptr.tuning.search import Search
from adaptr.tuning.space import space
from adaptr.tuning.trial import Trial, library, starts


def tune(
    adapters: Several | Recipe,
    data: str | os.PathLike[str] = "",
    out: str | os.PathLike[str] | None = None,
    *,
    base: Place | None = None,
    trials: int = 30,
    over: str | Sequence[str] = ("weights",),
    hold_out: float = 0.5,
    task: str = "auto",
    columns: Mapping[str, str] | None = None,
    length: int = 0,
    batch: int = 8,
    force: bool = False,
    progress: Progress | None = None,
    **options: object,
) -> Tuned:
    """One adapter of several on `base`, with weights, or whatever `over` names, chosen by the loss on `data`.

    `adapters`, `options`: as `compose` has them; a recipe with `tune`, or its file, says everything itself. `task`,
    `columns`, `length`, `batch`: of the records, as `evaluate` has them. `out`: where the result is written, with a
    journal beside it.
    `over`: what is searched, each alone or with a range: `weights=0..2`, `density`, `rank=4,8`, `strategy=linear,ties`.
    `trials`: measurements, the first of which are equal weights, those given, and each adapter alone. `hold_out`: the
    share of the records on which the result is only looked at. A search that was stopped goes on when called again.

    Raises `UsageError` for a search that makes no sense, `MissingExtra`, and what `compose` and `evaluate` raise.
    """
    started = time.perf_counter()
    if isinstance(adapters, Recipe) or recipe_file.named(adapters) is not None:
        recipe = recipe_of(adapters, {})
    else:
        each = [over] if isinstance(over, str) else list(over)
        what = Tune(os.fspath(data), trials, each, hold_out, task, dict(columns or {}), length, batch)
        known = {name: value for name, value in options.items() if name in recipe_file.FIELDS}
        config = {name: value for name, value in options.items() if name not in known}
        recipe = recipe_of(adapters, {**known, "config": config, "base": base, "tune": what})
    if recipe.tune is None:
        raise UsageError("the recipe has no `tune`", hint="say there what is to be found and on which data")
    if grounded(recipe.base) is None:
        raise UsageError("a search measures adapters on their base", hint="give it: `--base BASE`")
    place = None
    if out is not None:
        place = placed(out, force, reads(*(one.source for one in recipe.inputs), recipe.base, recipe.tune.data))
    return _tuned(recipe, recipe.tune, place, force, started, progress)


def _tuned(
    recipe: Recipe, tune: Tune, place: Path | None, force: bool, started: float, progress: Progress | None
) -> Tuned:
    library()
    search, first = _prepared(recipe, tune)
    labels = tuple(by_name([One(one(each.source)) for each in recipe.inputs]))
    journal = Journal(None if place is None else place.with_name(place.name + SUFFIX), search.about, force)
    del journal.trials[tune.trials :]
    resumed = len(journal.trials)
    with bench(search.here, search.space, search.given) as on:
        best = search.run(on, journal, first, progress)
        found = others(search, on, journal.trials, labels)
        lives = isinstance(on, Live)
    made = composed(on.recipe(best.values, best.alone), None if place is None else place.parent)
    seen = compared(search, made.adapter, found, best)
    made = replace(made, adapter=_told(made.adapter, search, journal.trials, best, seen))
    report = TuneReport(
        composed=made.report,
        labels=labels,
        space=tuple(one.as_dict() for one in search.space.dimensions),
        trials=tuple(journal.trials),
        best=journal.trials.index(best),
        live=lives,
        resumed=resumed,
        task=search.here.task.name,
        records=len(search.chosen.records),
        held=0 if search.held is None else len(search.held.records),
        models=seen.rows,
        single=seen.single,
        over_base=seen.over_base,
        over_single=seen.over_single,
        notes=(*search.here.notes, *seen.notes),
        seconds=time.perf_counter() - started,
    )
    tuned = Tuned(made, report)
    if place is not None:
        tuned = tuned.saved(place, force)
        journal.done()
    return tuned


def _prepared(recipe: Recipe, tune: Tune) -> tuple[Search, list[Trial]]:
    """The search, and the trials that it begins with. All that can be wrong is found before a model is loaded."""
    wanted = space(recipe, tune.over)
    first = starts(wanted, len(recipe.inputs))
    if tune.trials < len(first):
        least = f"{len(first)} or more: equal weights, those given and each adapter alone come first"
        raise UsageError("the number of trials", got=tune.trials, want=least)
    found = gathered(replace(recipe, tune=None))
    if not isinstance(found.root, Path):
        raise UsageError("the base", got="a live model", want="its folder, or a reference")
    options = Options(tune.task, tune.columns, tune.length, tune.batch, ())
    adapters = [parent.adapter for parent in found.parents]
    here = setting.opened(found.root, tune.data, adapters, options, recipe.any_base)
    chosen, held = _halves(here.data, tune.hold_out, recipe.seed)
    return Search(recipe, tune, wanted, here, found.parents, chosen, held), first


def _halves(data: Data, share: float, seed: int) -> tuple[Data, Data | None]:
    """(to choose by, to look at afterwards). One record alone is not divided."""
    if not share or len(data.records) < 2:
        return data, None
    held_most = min(share, 1 - 1 / len(data.records))
    return split(data, held_most, seed)


def _told(adapter: Adapter, search: Search, trials: Sequence[Trial], best: Trial, seen: Comparison) -> Adapter:
    """The adapter with the whole search in its lineage: inputs by their numbers, data by its digest."""
    losses = {row.name: row.tuned for row in seen.rows if row.name in (BASE, RESULT)}
    held = {row.name: row.held.value for row in seen.rows if row.held is not None and row.name in (BASE, RESULT)}
    said = {
        "data": search.here.data.digest,
        "task": search.here.task.name,
        "length": search.here.limits.length,
        "hold_out": search.tune.hold_out,
        "seed": search.recipe.seed,
        "space": [one.as_dict() for one in search.space.dimensions],
        "trials": [trial.as_dict() for trial in trials],
        "best": list(trials).index(best) + 1,
        "losses": {"chosen by": losses, "held out": held},
    }
    return adapter.replace(lineage={**adapter.lineage, "search": said})
