"""An adapter in arithmetic, lazily: `0.7 * a + b`, `-a`, `a["model.layers.0.self_attn.q_proj"] @ x`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from adaptr.adapter.expression import Expression

if TYPE_CHECKING:
    from adaptr.adapter.value import Adapter
    from adaptr.algebra.operator import Operator


class Summand:
    """What stands in a sum: each operation is that of the expression of it alone."""

    def __getitem__(self, path: str) -> Operator:
        """The delta at a target: `adapter["model.layers.0.self_attn.q_proj"] @ x`."""
        return self._alone[path]

    def __mul__(self, weight: float) -> Expression:
        return self._alone * weight

    __rmul__ = __mul__

    def __truediv__(self, number: float) -> Expression:
        return self._alone / number

    def __neg__(self) -> Expression:
        return -self._alone

    def __add__(self, other: Adapter | Expression) -> Expression:
        return self._alone + other

    def __sub__(self, other: Adapter | Expression) -> Expression:
        return self._alone - other

    @property
    def _alone(self) -> Expression:
        return Expression(((cast("Adapter", self), 1.0),))
