"""The search: trials one after the other, until as many were measured as are wanted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.composing.parents import Parent
from adaptr.composing.recipe import Recipe
from adaptr.composing.tune import Tune
from adaptr.errors import AdaptrError, NonFinite, NotPossible, UsageError
from adaptr.evaluating.measure import Progress
from adaptr.evaluating.setting import Setting
from adaptr.tuning.bench import Bench
from adaptr.tuning.journal import Journal
from adaptr.tuning.space import Space
from adaptr.tuning.trial import Trial, suggested

if TYPE_CHECKING:
    from adaptr.data.records import Data

#: What one composition may be refused for while others of the search are not.
REFUSED = (UsageError, NotPossible, NonFinite)


@dataclass(frozen=True)
class Search:
    """What is searched, and what it is measured on. `held`: records that are only looked at, if there are any."""

    recipe: Recipe
    tune: Tune
    space: Space
    here: Setting
    given: Sequence[Parent]
    chosen: Data
    held: Data | None

    @property
    def about(self) -> dict[str, Any]:
        """All that the search depends on. The base by its configuration and the sizes of its files."""
        recipe = replace(self.recipe, inputs=(), base=None, tune=None)
        return {
            "inputs": [[parent.weights, parent.adapter.method, parent.weight] for parent in self.given],
            "recipe": {name: value for name, value in vars(recipe).items() if name != "inputs"},
            "space": [one.as_dict() for one in self.space.dimensions],
            "task": self.here.task.name,
            "length": self.here.limits.length,
            "data": [self.here.data.digest, self.tune.columns, self.tune.hold_out],
            "base": _identity(self.here.base),
        }

    def run(self, bench: Bench, journal: Journal, first: Sequence[Trial], progress: Progress | None) -> Trial:
        """Measure until there are enough trials; the best of them. The first are `first`. If all were refused, raises
        the last refusal.
        """
        refused: AdaptrError | None = None
        while len(journal.trials) < self.tune.trials:
            number = len(journal.trials)
            if number < len(first):
                trial = first[number]
            else:
                trial = Trial(suggested(self.space, journal.trials, self.recipe.seed))
            try:
                loss = bench.measured(bench.recipe(trial.values, trial.alone), self.chosen.records).loss
                trial = replace(trial, loss=loss)
            except REFUSED as error:
                refused, trial = error, replace(trial, why=str(error))
            journal.add(trial)
            if progress is not None:
                progress(number + 1, self.tune.trials, _said(journal.trials))
        found = [trial for trial in journal.trials if trial.loss is not None]
        if not found:
            raise refused or UsageError("no trial could be made", hint=journal.trials[-1].why)
        return min(found, key=lambda trial: trial.loss)  # type: ignore[arg-type, return-value]


def _said(trials: Sequence[Trial]) -> str:
    losses = [trial.loss for trial in trials if trial.loss is not None]
    return f"best loss {min(losses):.4f}" if losses else "no loss yet"


def _identity(base: Path) -> Mapping[str, Any]:
    folder = base if base.is_dir() else base.parent
    sizes = {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}
    config = folder / "config.json"
    digest = hashlib.sha256(config.read_bytes()).hexdigest() if config.is_file() else ""
    return {"config": digest, "sizes": json.dumps(sizes)}
