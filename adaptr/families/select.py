"""Select methods: other values for some of the base's own parameters. The author says which, and how they are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from adaptr.adapter import kinds
from adaptr.contract import Capabilities, Live, View
from adaptr.contract.settings import C
from adaptr.families.base import Method
from adaptr.families.delta import add_bias
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Target
    from adaptr.families.row import Row


class SelectBias(Method[C]):
    """Biases: b' = b + w db, with db under the parameter `b`. Exact, additive, order-free."""

    family: ClassVar[str] = "select"
    formulas: ClassVar[tuple[str, ...]] = ()
    averages: ClassVar[bool] = True
    kinds: ClassVar[frozenset[str]] = kinds.BIASED

    def capabilities(self) -> Capabilities:
        """A method with a way of its own may look at what it changes."""
        own = type(self)
        plain = all(getattr(own, way) is getattr(SelectBias, way) for way in ("view", "inverse", "merge", "unmerge"))
        return dataclasses.replace(super().capabilities(), adds=plain, row=plain)

    def view(self, base: View, p: Live, cfg: C, weight: float) -> View:
        def call(x: Tensor) -> Tensor:
            y: Tensor = base(x)
            return y + base.along(self.shift(p, cfg, weight)).to(y.dtype)

        return base.then(call=call, bias=lambda: add_bias(base.bias, self.shift(p, cfg, weight)))

    def shift(self, p: Live, cfg: C, weight: float = 1.0) -> Tensor:
        return wide(p["b"]) * weight

    def row(self, target: Target, base: View, p: Live) -> Row:
        from adaptr.families.row import Row

        return Row(shift=p["b"])

    def inverse(self, merged: View, p: Live, cfg: C, kept: Mapping[str, Tensor], weight: float) -> View:
        return self.view(merged, p, cfg, -weight)
