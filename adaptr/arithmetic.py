"""Who works out arithmetic on adapters, named by the package itself: the values depend on no room above them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptr.adapter import Adapter
    from adaptr.adapter.expression import Expression
    from adaptr.algebra.operator import Operator


class Evaluator(Protocol):
    """What an expression asks for. Both raise `NoDelta` for a term that has none."""

    def operator(self, expression: Expression, path: str, /) -> Operator:
        """The delta at a target. Raises `TargetNotFound` if no term changes it."""

    def adapter(self, expression: Expression, rank: int | None, energy: float | None, /) -> Adapter:
        """The sum as an adapter, cut to a rank or an energy where one is given."""


#: The evaluator, imported when it is asked for; `adaptr/__init__.py` says which.
evaluator: Callable[[], Evaluator]
