"""What is wrong with a recipe and can be told without weights, torch or a trainer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

from adaptr import plugins
from adaptr.data.split import share_of
from adaptr.errors import BadConfig, MissingExtra, NotPossible, UsageError
from adaptr.training.recipe import FRESH, Recipe

#: Recorders of curves, and the packages they are in.
RECORDERS = ("tensorboard", "wandb")
Check = tuple[str, Callable[[], object]]


def require(recipe: Recipe) -> None:
    """Raises the first of `checks`."""
    for _, check in checks(recipe):
        check()


def checks(recipe: Recipe) -> Iterator[Check]:
    """Each with the field that it is about. A check raises a typed error."""
    yield "method", lambda: _learns(recipe) if recipe.adapter is None else None
    yield "over", lambda: _over(recipe) if recipe.adapter is None else None
    yield "config", lambda: plugins.method(recipe.method).config(recipe.config) if recipe.adapter is None else None
    yield "adapter", lambda: _fresh(recipe)
    yield "objective", lambda: _preference(recipe)
    yield "pack", lambda: _packed(recipe)
    yield "valid", lambda: share_of(recipe.valid) if recipe.valid else None
    yield "double_quant", lambda: _double(recipe)
    yield "eval_every", lambda: _measured(recipe)
    yield "report_to", lambda: _recorded(recipe)


def _learns(recipe: Recipe) -> None:
    method, can = recipe.method, plugins.method(recipe.method).can
    if can.gates:
        raise NotPossible(f"`{method}` weighs other adapters", hint="train it with `adaptr gate train`")
    if not can.learns and not can.parts:
        raise NotPossible(f"`{method}` learns nothing: its tensors follow from what it is made of")
    if can.learns and can.needs and not recipe.over:
        raise UsageError(f"`{method}` is made of other adapters, and none was given", hint="name them by `over`")


def _over(recipe: Recipe) -> None:
    can = plugins.method(recipe.method).can
    if recipe.over and not (can.over and can.learns):
        raise UsageError(f"`{recipe.method}` is made of no other adapters", hint="leave `over` out")
    if recipe.over and recipe.targets is not None:
        raise UsageError(f"`{recipe.method}` is where the adapters are that it is made of", hint="leave `targets` out")


def _fresh(recipe: Recipe) -> None:
    beside = [name for name in FRESH if getattr(recipe, name)]
    if recipe.adapter is not None and beside:
        raise UsageError(
            f"`{beside[0]}` is of a fresh adapter, and `adapter` says to go on from one",
            hint="leave one of the two out",
        )


def _preference(recipe: Recipe) -> None:
    if recipe.objective == "dpo" and recipe.task not in {"auto", "lm"}:
        raise BadConfig("`objective`", got="`dpo`", want=f"`sft` for the task `{recipe.task}`")
    if recipe.objective == "dpo" and recipe.pack:
        raise UsageError("`pack` is of language modelling, and `dpo` compares whole answers", hint="leave `pack` out")


def _packed(recipe: Recipe) -> None:
    if recipe.pack and recipe.task not in {"auto", "lm"}:
        raise BadConfig("`pack`", got="true", want=f"false for the task `{recipe.task}`: only texts are packed")


def _double(recipe: Recipe) -> None:
    if recipe.double_quant and recipe.base_quant != "nf4":
        raise BadConfig("`double_quant`", got="true", want="`base_quant: nf4`, whose scales it quantises")


def _measured(recipe: Recipe) -> None:
    if recipe.eval_every and recipe.valid is None:
        raise BadConfig("`eval_every`", got=recipe.eval_every, want="`valid` beside it: data to measure on")


def _recorded(recipe: Recipe) -> None:
    for name in recipe.report_to:
        if name not in RECORDERS:
            raise BadConfig("`report_to`", got=f"`{name}`", want=f"some of {', '.join(RECORDERS)}")
        if importlib.util.find_spec(name) is None:
            raise MissingExtra(f"`report_to: {name}` needs it installed: `pip install {name}`")
