"""Where trials are measured: on a live stack, whose strengths alone change, or on what is composed in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptr import plugins, strategies
from adaptr.composing.compose import composed
from adaptr.composing.parents import Parent
from adaptr.composing.recipe import Input, Recipe
from adaptr.errors import UsageError
from adaptr.evaluating.measure import Measured
from adaptr.evaluating.setting import Setting
from adaptr.strategies.whole import Whole
from adaptr.tuning.space import Space, Values

if TYPE_CHECKING:
    from adaptr.data.records import Record
    from adaptr.runtime.stack import Stack


class Bench:
    """What a recipe's result is worth, composed in memory and attached."""

    def __init__(self, here: Setting, space: Space, given: Sequence[Parent]) -> None:
        self.here, self.space, self.given = here, space, given

    def measured(self, recipe: Recipe, records: Sequence[Record]) -> Measured:
        inputs = tuple(Input(parent.adapter, one.weight) for parent, one in zip(self.given, recipe.inputs, strict=True))
        made = composed(replace(recipe, inputs=inputs, base=self.here.base), spooled=False).adapter
        with self.here.attached({"made": (made, 1.0)}):
            return self.here.measure(records)

    def bare(self, records: Sequence[Record]) -> Measured:
        """The base without an adapter."""
        return self.here.measure(records)

    def recipe(self, values: Values, alone: int | None = None) -> Recipe:
        """The recipe of a trial; of an input alone, the weighted sum of it and nothing else."""
        if alone is None:
            return self.space.made(values)
        plain = self.space.made({})
        inputs = tuple(replace(one, weight=1.0 if n == alone else 0.0) for n, one in enumerate(plain.inputs))
        strategy = strategies.get(plain.strategy)
        if strategy.linear or isinstance(strategy, Whole):
            return replace(plain, inputs=inputs)
        return replace(plain, inputs=inputs, strategy="linear", config={})


class Live(Bench):
    """The same where the strategy is the weighted sum of changes that only add: nothing is composed, attached or
    written for a trial.
    """

    def __init__(self, here: Setting, space: Space, given: Sequence[Parent], stack: Stack) -> None:
        super().__init__(here, space, given)
        self.stack = stack

    def measured(self, recipe: Recipe, records: Sequence[Record]) -> Measured:
        weights = [float(one.weight) for one in recipe.inputs]  # type: ignore[arg-type]
        total = sum(weights) if _normal(recipe) else 1.0
        if not total:
            raise UsageError("the weights add up to zero", want="a sum that they can be divided by")
        for name, weight in zip(self.stack, weights, strict=True):
            self.stack[name] = weight / total
        return self.here.measure(records)

    def bare(self, records: Sequence[Record]) -> Measured:
        for name in self.stack:
            self.stack[name] = 0.0
        return self.here.measure(records)


def _normal(recipe: Recipe) -> bool:
    return strategies.get(recipe.strategy).normalize if recipe.normalize is None else recipe.normalize


@contextmanager
def bench(here: Setting, space: Space, given: Sequence[Parent]) -> Iterator[Bench]:
    if not live(space, given):
        yield Bench(here, space, given)
        return
    parts = {f"a{n}": (parent.adapter, 0.0) for n, parent in enumerate(given)}
    with here.attached(parts) as stack:
        yield Live(here, space, given, stack)


def live(space: Space, given: Sequence[Parent]) -> bool:
    """Whether every trial is a sum of the inputs' changes, each at one strength everywhere."""
    recipe = space.recipe
    strategy = strategies.get(recipe.strategy)
    cut = recipe.rank is not None or recipe.energy is not None or recipe.dtype is not None
    plain = all(isinstance(one.weight, int | float) for one in recipe.inputs)
    return strategy.linear and not cut and plain and space.of_weights and all(map(_adds, given))


def _adds(parent: Parent) -> bool:
    can = plugins.method(parent.adapter.method).can
    return can.adds and can.delta and not parent.adapter.parts and not parent.adapter.replaced
