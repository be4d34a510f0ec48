"""A recipe: all that a composition depends on, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adaptr import strategies
from adaptr.adapter.weighting import Weight
from adaptr.composing.beside import CHOICES, Choice
from adaptr.composing.tune import Tune
from adaptr.errors import UsageError
from adaptr.format import digest
from adaptr.precision import named
from adaptr.sources.given import Given
from adaptr.strategies.base import Strategy
from adaptr.strategies.whole import Whole


@dataclass(frozen=True)
class Input:
    """One adapter of a recipe, its weight, and the digest it must have, if that is said."""

    source: Given
    weight: Weight = 1.0
    digest: str = ""


@dataclass(frozen=True)
class Recipe:
    """Inputs, strategy and options.

    `rank`, `energy`: what the result is cut to, where that is wanted. `normalize`: whether weights are divided by their
    sum; None for what the strategy says. `replaced`: what becomes of biases and whole parameters of several inputs.
    `base`: a checkpoint or a live model, for methods whose delta depends on it. `any_base`: go on although the
    inputs name their base differently. `dtype`: what the result's deltas are stored in, by name; None for the wider of
    fp32 and the inputs. `tune`: what of all this is to be found by measuring, which `adaptr.tune` does.
    `notes`: what is not as the tool has it that the recipe was written for.
    """

    inputs: tuple[Input, ...]
    strategy: str = "linear"
    config: Mapping[str, Any] = field(default_factory=dict)
    rank: int | None = None
    energy: float | None = None
    normalize: bool | None = None
    seed: int = 0
    replaced: Choice = "refuse"
    base: Any = None
    any_base: bool = False
    name: str = ""
    dtype: str | None = None
    tune: Tune | None = None
    notes: tuple[str, ...] = ()


def checked(recipe: Recipe) -> tuple[Strategy, Any]:
    """The strategy and its configuration. Raises `UsageError` for what is wrong before anything is read."""
    strategy = strategies.get(recipe.strategy)
    cfg = strategy.config(recipe.config)
    count, least, most = len(recipe.inputs), strategy.least, strategy.most
    if count < least or (most and count > most):
        wanted = f"{most}" if least == most else f"{least} or more"
        takes = f"strategy `{strategy.name}` takes {wanted} adapters, got {count}"
        raise UsageError(takes, hint="choose another one with `--strategy`, or give so many")
    if recipe.rank is not None and recipe.rank < 1:
        raise UsageError("the rank", got=recipe.rank, want="at least 1")
    if recipe.energy is not None and not 0 < recipe.energy <= 1:
        raise UsageError("the energy", got=recipe.energy, want="a share above 0 and up to 1")
    if strategy.rank_wanted and recipe.rank is None and recipe.energy is None:
        raise UsageError(
            f"strategy `{strategy.name}` wants a rank or a share of the energy", hint="give `--rank` or `--energy`"
        )
    if strategy.searches and recipe.normalize:
        raise UsageError(
            f"strategy `{strategy.name}` finds weights that are right as they are: divided by their sum they "
            "would be others",
            hint="leave out `--normalize`",
        )
    named(recipe.dtype)
    if recipe.dtype is not None and isinstance(strategy, Whole):
        raise UsageError(f"strategy `{strategy.name}` keeps the tensors' own dtypes", hint="leave out `dtype`")
    if recipe.replaced not in CHOICES:
        raise UsageError("`replaced`", got=f"`{recipe.replaced}`", want=f"{', '.join(CHOICES)}")
    return strategy, cfg


def arguments(recipe: Recipe, cfg: object, weights: list[Weight], random: bool) -> dict[str, Any]:
    """What the lineage says of a recipe besides its inputs. Files are named by digest, never by their place."""
    files = strategies.get(recipe.strategy).files
    config = {key: digest.of_file(value) if key in files and value else value for key, value in vars(cfg).items()}
    given: dict[str, Any] = {"rank": recipe.rank, "energy": recipe.energy, "normalize": recipe.normalize}
    given["dtype"] = recipe.dtype
    if recipe.replaced != "refuse":
        given["replaced"] = recipe.replaced
    if random:
        given["seed"] = recipe.seed
    said = {key: value for key, value in given.items() if value is not None}
    return {"strategy": recipe.strategy, "config": config, "weights": weights, **said}


def files(recipe: Recipe) -> dict[str, str]:
    """The files that the strategy reads, by the field of the configuration that names them."""
    fields = strategies.get(recipe.strategy).files
    named = {field: recipe.config.get(field) for field in sorted(fields)}
    return {field: file for field, file in named.items() if isinstance(file, str) and file}
