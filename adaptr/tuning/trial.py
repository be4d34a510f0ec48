"""A trial: values, and the loss that was measured with them. What is tried next follows from those before alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import strategies
from adaptr.errors import MissingExtra
from adaptr.tuning.space import Space

if TYPE_CHECKING:
    from types import ModuleType

#: What trials are called that are not drawn.
EQUAL, GIVEN, NEAR, ALONE = "equal", "as given", "near what was given", "alone"


@dataclass(frozen=True)
class Trial:
    """`values`: of the space; {} where the trial is none of it, as an adapter alone may be. `called`: what it is, where
    it was not drawn; `alone`: the number of the only input. `loss`: None where it can't be made, and `why`.
    """

    values: Mapping[str, Any]
    called: str = ""
    alone: int | None = None
    loss: float | None = None
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        said = {"values": dict(self.values), "called": self.called, "alone": self.alone, "why": self.why}
        return {**{key: value for key, value in said.items() if value not in ("", None)}, "loss": self.loss}


def starts(space: Space, count: int) -> list[Trial]:
    """The first trials: equal shares, what was given, each of `count` inputs alone. Two of the same values are one.
    What is outside of what is searched is tried by what is near it, and called so.
    """
    called = GIVEN if space.holds(1.0) else NEAR
    found = [Trial(space.start(1.0 / count), EQUAL), Trial(space.start(1.0), called)]
    distinct = found[:1] if found[0].values == found[1].values else found
    return [*distinct, *(Trial(_alone(space, number, count), ALONE, number) for number in range(count))]


def _alone(space: Space, number: int, count: int) -> dict[str, Any]:
    """The values that are an input alone, so that the search learns of it, where some are."""
    strategy = strategies.get(space.recipe.strategy)
    plain = all(one.weight == 1.0 for one in space.recipe.inputs)
    inside = space.of_weights and space.spans(0.0) and space.spans(1.0)
    if not (strategy.linear and plain and inside):
        return {}
    return space.start([float(n == number) for n in range(count)])


def suggested(space: Space, before: Sequence[Trial], seed: int) -> dict[str, Any]:
    """The values of the next trial, by a tree-structured Parzen estimator over those before.  Bergstra et al. 2011.

    A sampler of its own for each trial, seeded by its number: a search that was interrupted goes on as if it were not.
    """
    optuna = library()
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{len(before)}".encode()).digest()[:4])
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=draw))
    for trial in before:
        if trial.values and trial.loss is not None:
            study.add_trial(_known(optuna, space, trial))
    return space.suggest(study.ask())


def _known(optuna: ModuleType, space: Space, trial: Trial) -> object:
    """A trial that was measured, as the library has it."""
    fixed = optuna.trial.FixedTrial(dict(trial.values))
    space.suggest(fixed)
    kept = {"params": fixed.params, "distributions": fixed.distributions, "value": trial.loss}
    found: object = optuna.trial.create_trial(**kept)
    return found


def library() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtra("a search needs optuna", hint="`pip install 'adaptr[tune]'`") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: ModuleType = optuna
    return found
