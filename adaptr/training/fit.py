"""From a recipe to an adapter with its provenance, and a report of what it is worth."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from adaptr.errors import OutputExists, UsageError
from adaptr.sources.open import placed, reads
from adaptr.sources.resolve import resolve
from adaptr.training import checking, checkpoints, processes, recipe_file
from adaptr.training.fields import recipe as checked
from adaptr.training.recipe import PLACES, Recipe, places
from adaptr.training.report import TrainingReport
from adaptr.training.watching import About, Watcher

#: What a finished run leaves beside its adapter, with what is not the same each time.
REPORT = "report.json"


def fit(
    base: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    force: bool = False,
    watcher: Watcher | None = None,
    **fields: Any,
) -> TrainingReport:
    """Train an adapter on data: `fit("smollm2", "answers.jsonl", "answers.safetensors", method="lora", rate=1e-3)`.

    `base`: a folder or reference of a model, or a recipe's YAML file, which says all the rest itself. `fields`: those
    of a `Recipe`. `watcher`: is told of each step. `out`: where the adapter is written; None to have it in the report
    alone. Meanwhile checkpoints
    are in `OUT.run/`; `resume` goes on from the newest. The same call gives the same bytes on one machine, interrupted
    or not. Raises `BadConfig` and `RecipeError` for what is wrong with the recipe, `DataError` for the data, `Diverged`
    for a training that comes to nothing, `Interrupted` where it was asked to stop.
    """
    made = given(base, data, fields)
    checking.require(made)
    with _run(made, out, resume, force) as (place, run):
        from adaptr.training.course import Course

        told = watcher if watcher is not None and processes.is_main() else Watcher()
        report = Course(made, place, run, resume, told).report(force)
        if report.out:
            finished(run, report)
        return report


def given(base: object, data: object, fields: dict[str, Any]) -> Recipe:
    """The recipe that a call means. Raises `UsageError` where a recipe's file and fields are given."""
    if recipe_file.is_one(base):
        if data is not None or fields:
            beside = "data" if data is not None else next(iter(fields))
            raise UsageError(f"a recipe says everything itself: leave out `{beside}`")
        return recipe_file.read(resolve(os.fspath(base)).path, look=True)  # type: ignore[call-overload]
    said = {"base": base, "data": data, **{name: fields[name] for name in PLACES & fields.keys()}}
    each = {name: [os.fspath(one) for one in value] for name, value in said.items() if isinstance(value, list | tuple)}
    one = {name: value and os.fspath(value) for name, value in said.items() if name not in each}
    return checked(**{**fields, **each, **one})


@contextmanager
def _run(
    recipe: Recipe, out: str | os.PathLike[str] | None, resume: bool, force: bool
) -> Iterator[tuple[Path | None, Path]]:
    """(the file to write, the folder of the run)."""
    if out is None:
        if resume:
            raise UsageError("without an output there is no run to go on with", hint="say where the adapter goes")
        with tempfile.TemporaryDirectory() as folder:
            yield None, Path(folder)
        return
    given = [one for name in PLACES for one in places(getattr(recipe, name))]
    inputs = [Path(one) for one in given if one != "-" and os.path.exists(one)]
    place = placed(out, force, [*reads(recipe.base), *inputs])
    run = checkpoints.folder(place)
    with checkpoints.held(run) if processes.is_main() else nullcontext():
        _begin(run, resume, force)
        yield place, run


def _begin(run: Path, resume: bool, force: bool) -> None:
    if checkpoints.all_of(run) and not (resume or force):
        raise OutputExists(
            f"`{run}` has checkpoints of a training that did not end",
            hint="say `--resume` to go on, `--force` to begin anew",
        )
    if not resume and processes.is_main():
        _emptied(run)


def _emptied(run: Path) -> None:
    """Nothing but what a run of adaptr writes is removed."""
    for found in [*checkpoints.all_of(run), checkpoints.staging(run)]:
        shutil.rmtree(found, ignore_errors=True)
    (run / REPORT).unlink(missing_ok=True)


def finished(run: Path, report: TrainingReport) -> None:
    """Leave the report where the checkpoints were, which are of no use any more."""
    from adaptr.files import replacing

    _emptied(run)
    with replacing(run / REPORT, force=True) as file:
        file.write(json.dumps(report.as_dict(), indent=1, ensure_ascii=False).encode())


def planned(base: Any, data: Any = None, out: Any = None, **fields: Any) -> About:
    """What `fit` would train with the same arguments. Loads neither weights nor torch."""
    made = given(base, data, fields)
    checking.require(made)
    from adaptr.training.planned import about

    return about(made, "" if out is None else os.fspath(out))
