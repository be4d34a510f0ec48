"""Adapters as people write them: `0.7 * a + 0.3 * b`, `a - b`, `-a`. Nothing is computed before it is asked for.

An expression is a weighted sum of deltas, and holds its terms alone. `expression[path]` is an operator in factor space;
where an adapter is wanted (`adaptr.save`, `attach`, `merge`, ...), it stands for its `linear` composition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import arithmetic
from adaptr.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.algebra.operator import Operator
    from adaptr.checkpoint.open import Checkpoint


@dataclass(frozen=True)
class Expression:
    """Σ weight · adapter. `base`: for methods whose delta depends on it, see `on`."""

    terms: tuple[tuple[Adapter, float], ...]
    base: Any = None

    def on(self, base: Checkpoint | nn.Module) -> Expression:
        """The same sum against a base, for terms such as DoRA: an open checkpoint or a live model."""
        return Expression(self.terms, base)

    def __getitem__(self, path: str) -> Operator:
        """The delta at a target. Raises `TargetNotFound` if no term changes it."""
        return arithmetic.evaluator().operator(self, path)

    def __mul__(self, weight: float) -> Expression:
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            return NotImplemented
        if not math.isfinite(weight):
            raise UsageError("the weight", got=weight, want="a finite number")
        return Expression(tuple((adapter, w * weight) for adapter, w in self.terms), self.base)

    __rmul__ = __mul__

    def __truediv__(self, number: float) -> Expression:
        return self * (1 / number)

    def __neg__(self) -> Expression:
        return self * -1.0

    def __add__(self, other: Adapter | Expression) -> Expression:
        more = other.terms if isinstance(other, Expression) else ((other, 1.0),)
        base = other.base if isinstance(other, Expression) and self.base is None else self.base
        return Expression(_joined((*self.terms, *more)), base)

    def __sub__(self, other: Adapter | Expression) -> Expression:
        return self + -other

    def adapter(self, rank: int | None = None, energy: float | None = None) -> Adapter:
        """The sum as an adapter: the `linear` composition, cut to a rank or an energy where one is given."""
        return arithmetic.evaluator().adapter(self, rank, energy)


def _joined(terms: Sequence[tuple[Adapter, float]]) -> tuple[tuple[Adapter, float], ...]:
    """The same adapter once, with the sum of its weights."""
    found: dict[int, tuple[Adapter, float]] = {}
    for adapter, weight in terms:
        key = id(adapter.origin)
        found[key] = (adapter, weight + (found[key][1] if key in found else 0.0))
    return tuple(found.values())
