"""What is searched: weights, fields of strategies, the rank, the strategy."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adaptr import strategies
from adaptr.adapter.weighting import scaled
from adaptr.composing.recipe import Recipe, checked
from adaptr.errors import UsageError
from adaptr.strategies.base import Strategy

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

#: A weight, a field, a rank, or the name of a strategy.
Value = str | float

WEIGHTS, RANK, STRATEGY = "weights", "rank", "strategy"
_RANGE = re.compile(r"(.+)\.\.(.+)")
#: Where weights, shares and the field that a whole result is multiplied by are looked for unless it is said.
_WEIGHTS, _SHARES, _FACTOR = (0.0, 1.5), (0.05, 1.0), (0.0, 2.0)

#: Values by name: `weight 1` and on by the number of the input, fields by their names, `rank`, `strategy`.
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Dimension:
    """One thing that is searched: a range of numbers, whole or not, or some values."""

    name: str
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: BaseTrial, name: str) -> Value:
        drawn: Value
        if self.choices:
            drawn = trial.suggest_categorical(name, self.choices)
        elif self.whole:
            drawn = trial.suggest_int(name, int(self.low), int(self.high))
        else:
            drawn = trial.suggest_float(name, self.low, self.high)
        return drawn

    def nearest(self, value: Value) -> Value:
        """The value itself where it is among those that are searched, else one that is near it."""
        if self.choices:
            return value if value in self.choices else self.choices[0]
        inside = min(max(float(value), self.low), self.high)
        return int(inside) if self.whole else inside

    @property
    def ends(self) -> tuple[Any, Any]:
        """The least and the most that is tried."""
        return (
            (min(self.choices), max(self.choices))
            if self.choices
            else (self.nearest(self.low), self.nearest(self.high))
        )

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, **({"choices": list(self.choices)} if self.choices else self._range())}

    def _range(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}


@dataclass(frozen=True)
class Space:
    """What is searched of a recipe."""

    recipe: Recipe
    dimensions: tuple[Dimension, ...]

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """Values that a trial draws. Fields that the drawn strategy has not are not drawn."""
        found: dict[str, Any] = {}
        for one in self._of(STRATEGY):
            found[STRATEGY] = one.suggest(trial, STRATEGY)
        for name, one in self._named(found.get(STRATEGY, self.recipe.strategy)):
            found[name] = one.suggest(trial, name)
        return found

    def start(self, weight: float | Sequence[float]) -> dict[str, Any]:
        """Values to begin with: what the recipe says of everything, and one weight for all or one each."""
        return {name: one.nearest(one.high if said is None else said) for name, one, said in self._said(weight)}

    def holds(self, weight: float) -> bool:
        """Whether what the recipe says, with one weight for all, is among what is searched."""
        return all(said is not None and one.nearest(said) == said for _, one, said in self._said(weight))

    def _said(self, weight: float | Sequence[float]) -> Iterator[tuple[str, Dimension, Value | None]]:
        """What the recipe says of each thing that is searched; None for a rank that it leaves as it comes."""
        strategy = self.recipe.strategy
        for one in self._of(STRATEGY):
            yield STRATEGY, one, strategy
            strategy = str(one.nearest(strategy))
        own = vars(strategies.get(strategy).config(self._config(strategy, {})))
        for name, one in self._named(strategy):
            if one.name == WEIGHTS:
                at = int(name.rpartition(" ")[2]) - 1
                yield name, one, weight if isinstance(weight, float) else weight[at]
            else:
                yield name, one, own.get(name, self.recipe.rank)

    def made(self, values: Values) -> Recipe:
        """The recipe with these values; weights are those of the recipe times the drawn ones."""
        strategy = values.get(STRATEGY, self.recipe.strategy)
        fields = {
            name: value for name, value in values.items() if name not in (STRATEGY, RANK) and not _of_weight(name)
        }
        inputs = tuple(
            replace(one, weight=scaled(one.weight, values.get(weight_of(n), 1.0)))
            for n, one in enumerate(self.recipe.inputs)
        )
        return replace(
            self.recipe,
            inputs=inputs,
            strategy=strategy,
            config=self._config(strategy, fields),
            rank=values.get(RANK, self.recipe.rank),
            tune=None,
        )

    def _config(self, strategy: str, fields: Values) -> dict[str, Any]:
        """The recipe's own fields as far as the strategy has them, and these."""
        known = _fields(strategy)
        own = {name: v for name, v in self.recipe.config.items() if name in known or strategy == self.recipe.strategy}
        return {**own, **fields}

    @property
    def of_weights(self) -> bool:
        """Whether nothing but weights is searched."""
        return all(one.name == WEIGHTS for one in self.dimensions)

    def spans(self, weight: float) -> bool:
        """Whether a weight is among those that are searched."""
        return any(one.nearest(weight) == weight for one in self._of(WEIGHTS))

    def _of(self, name: str) -> Iterator[Dimension]:
        return (one for one in self.dimensions if one.name == name)

    def _named(self, strategy: str) -> Iterator[tuple[str, Dimension]]:
        """Name and dimension of all that is drawn beside the strategy."""
        for one in self.dimensions:
            if one.name == WEIGHTS:
                yield from ((weight_of(n), one) for n in range(len(self.recipe.inputs)))
            elif one.name == RANK or one.name in _fields(strategy):
                yield one.name, one


def weight_of(number: int) -> str:
    """What the factor of an input's weight is called, by its number from 0."""
    return f"weight {number + 1}"


def _of_weight(name: str) -> bool:
    return name.startswith("weight ")


def _fields(strategy: str) -> list[str]:
    return [field.name for field in dataclasses.fields(strategies.get(strategy).Config)]


def space(recipe: Recipe, over: Sequence[str]) -> Space:
    """What `over` names. Raises `UsageError` for what no strategy of the search has, twice the same, and for ranges
    that are none.
    """
    parts = [text.partition("=") for text in over]
    names = [name.strip() for name, _, _ in parts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"`{twice}` is to be searched twice", hint="say it once")
    chosen = next((said for name, _, said in parts if name.strip() == STRATEGY), "")
    tried = [one.strip() for one in chosen.split(",")] if chosen else [recipe.strategy]
    found = Space(recipe, tuple(_dimension(name.strip(), said.strip(), tried) for name, _, said in parts))
    _require(found, tried)
    return found


def _require(found: Space, tried: Sequence[str]) -> None:
    """Raises `UsageError` for ends of ranges that a strategy would refuse, before anything is measured."""
    for strategy in tried:
        ends: list[dict[str, Any]] = [{STRATEGY: strategy}, {STRATEGY: strategy}]
        for name, one in found._named(strategy):
            for values, end in zip(ends, one.ends, strict=True):
                values[name] = end
        for values in ends:
            checked(found.made(values))
        if strategies.get(strategy).searches:
            raise UsageError(
                f"strategy `{strategy}` searches weights itself, so there is nothing to tune", hint="use `linear`"
            )


def _dimension(name: str, said: str, tried: Sequence[str]) -> Dimension:
    if said:
        return _said(name, said, tried)
    if name == WEIGHTS:
        return Dimension(name, *_WEIGHTS)
    if name in (STRATEGY, RANK):
        raise UsageError(f"`{name}` can't be searched without saying which", hint=f"`{name}={_EXAMPLE[name]}`")
    owner = _owner(name, tried)
    if name in owner.shares:
        return Dimension(name, *_SHARES)
    if name == owner.factor:
        return Dimension(name, *_FACTOR)
    raise UsageError(f"`{name}` has no range of its own to search", hint=f"say one: `{name}=0.1..1`")


_EXAMPLE = {STRATEGY: "linear,ties", RANK: "4,8,16"}


def _said(name: str, said: str, tried: Sequence[str]) -> Dimension:
    whole = name == RANK
    if name not in (WEIGHTS, RANK, STRATEGY):
        default = getattr(_owner(name, tried).config({}), name, 0.0)
        whole = isinstance(default, int) and not isinstance(default, bool)
    elif name == STRATEGY:
        return Dimension(name, choices=tuple(tried))
    try:
        if (ends := _RANGE.fullmatch(said)) is None:
            values = tuple(int(one) if whole else float(one) for one in said.split(","))
            return Dimension(name, choices=values, whole=whole)
        low, high = float(ends[1]), float(ends[2])
    except ValueError:
        raise UsageError(f"the range of `{name}`", got=f"`{said}`", want="LOW..HIGH, or values with commas") from None
    if not low < high or abs(low) == float("inf") or abs(high) == float("inf"):
        raise UsageError(f"the range of `{name}`", got=f"`{said}`", want="LOW..HIGH with the lower one first")
    return Dimension(name, low, high, whole)


def _owner(name: str, tried: Sequence[str]) -> Strategy[Any]:
    """The first strategy that has such a field."""
    known = {field: one for one in reversed(tried) for field in _fields(one)}
    if name not in known:
        near = difflib.get_close_matches(name, [WEIGHTS, RANK, STRATEGY, *known], n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"it can be {', '.join([WEIGHTS, RANK, STRATEGY, *known])}"
        raise UsageError(f"there is no `{name}` to search in {', '.join(tried)}", hint=hint)
    return strategies.get(known[name])
