"""What an expression of adapters asks for: the `Evaluator` of `adaptr.adapter.expression`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.changes.deltas import deltas
from adaptr.composing.compose import composed
from adaptr.composing.recipe import Input, Recipe
from adaptr.errors import TargetNotFound
from adaptr.strategies.base import weighted

if TYPE_CHECKING:
    from adaptr.adapter import Adapter
    from adaptr.adapter.expression import Expression
    from adaptr.algebra.operator import Operator


def operator(expression: Expression, path: str) -> Operator:
    """The delta at a target. Raises `TargetNotFound` if no term changes it."""
    found = [(deltas(adapter, expression.base), weight) for adapter, weight in expression.terms]
    here = [(d[path], weight) for d, weight in found if path in d]
    if not here:
        names = ", ".join(f"`{adapter.label}`" for adapter, _ in expression.terms)
        raise TargetNotFound(f"{names} change no weight at `{path}`", hint="see what they change with `adaptr inspect`")
    return weighted([op for op, _ in here], [weight for _, weight in here])


def adapter(expression: Expression, rank: int | None, energy: float | None) -> Adapter:
    """The `linear` composition of the terms."""
    inputs = tuple(Input(adapter, weight) for adapter, weight in expression.terms)
    return composed(Recipe(inputs, rank=rank, energy=energy, base=expression.base)).adapter
