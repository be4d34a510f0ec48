"""Delta methods: W' = W + w D(p). The author supplies `params` and `delta(p, cfg)`, an operator.

`delta` gets its tensors in fp32 or better, whatever they are stored in: half precision would round what it makes of
them, or lose it. Where it makes nothing of them and hands them on, `as_stored` lets a live layer work in their dtype.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.adapter import kinds
from adaptr.adapter.tensors import Wide
from adaptr.contract import Capabilities, Live, View
from adaptr.contract.settings import C
from adaptr.errors import Unsupported
from adaptr.families.base import Method
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Target
    from adaptr.algebra.operator import Operator
    from adaptr.contract.view import Call
    from adaptr.families.row import Row


class Delta(Method[C]):
    """Sum of the base and an operator. Order-free; deltas of several adapters add."""

    family: ClassVar[str] = "delta"
    formulas: ClassVar[tuple[str, ...]] = ("delta|view",)
    kinds: ClassVar[frozenset[str]] = kinds.MATRIX

    colwise: ClassVar[bool] = True
    #: Whether `delta` hands the tensors on as they are, with no arithmetic on them.
    as_stored: ClassVar[bool] = False

    def delta(self, p: Live, cfg: C) -> Operator:
        """The operator D for these tensors."""
        raise NotImplementedError

    def capabilities(self) -> Capabilities:
        """A method with a way of its own through a weight may look at that weight: it has no delta then."""
        own = type(self)
        plain = all(getattr(own, way) is getattr(Delta, way) for way in ("view", "inverse", "merge", "unmerge"))
        return dataclasses.replace(super().capabilities(), adds=plain, delta=plain, row=plain)

    def travels(self, p: Live, cfg: C) -> bool:
        return self.can.delta and (self.as_stored or self.portable) and self.formed(p, cfg).portable

    def formed(self, p: Live, cfg: C) -> Operator:
        """D, with all arithmetic on the tensors in fp32 or better."""
        return self.delta(p if self.as_stored else Wide(p), cfg)

    def operator(self, target: Target, p: Live) -> Operator:
        """D at a target, which says whether a stack of experts is one."""
        found = self.formed(p, self.config(target.config))
        found.experts = target.stacked
        return found

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        if target.looked_up and values.get("bias"):
            raise Unsupported(
                f"`{self.name}` with a `bias` at `{target.path}`: a look-up table can't have one",
                hint="leave `bias` out, or the look-up table out of the targets",
            )
        return values

    def delta_bias(self, p: Live, cfg: C) -> Tensor | None:
        """What is added to the bias, if anything."""
        return None

    def shift(self, p: Live, cfg: C, weight: float = 1.0) -> Tensor | None:
        """What is added to the bias at a strength, in fp32 or better."""
        found = self.delta_bias(Wide(p), cfg)
        return found if found is None or weight == 1.0 else wide(found) * weight

    def view(self, base: View, p: Live, cfg: C, weight: float) -> View:
        drop = getattr(cfg, "dropout", 0.0)

        def call(x: Tensor) -> Tensor:
            op, shift = self.formed(p, cfg), self.shift(p, cfg, weight)
            if weight != 1.0:
                op = op * weight
            y = op.forward(base, x, _dropped(x, drop, p) if drop else None)
            return y if shift is None else y + base.along(shift).to(y.dtype)

        def bias() -> Tensor | None:
            return add_bias(base.bias, self.shift(p, cfg, weight))

        def change() -> Operator:
            return self.formed(p, cfg) * weight

        if base.exact is not None:  # to be read in many parts, of tensors that stay
            change = functools.cache(lambda op=change, dtype=base.exact: op().exact(dtype))
        return base.then(
            call=self.live(base, p, cfg, weight, call),
            rows=lambda s: change().add_rows(base.rows(s), s),
            cols=lambda s: change().add_cols(base.cols(s), s),
            bias=bias,
            parts=tuple(p[name] for name in p),
        )

    def row(self, target: Target, base: View, p: Live) -> Row:
        if not self.can.row:
            raise Unsupported(
                f"`{self.name}` has a way of its own through a weight, which can't be one row of a batch",
                hint="attach it to a model of its own",
            )
        from adaptr.families.row import Row

        cfg = self.config(target.config)
        found = self.formed(p, cfg).low_rank()
        B, A = found.factors()
        return Row(A, B * found.scale, shift=self.shift(p, cfg))

    def live(self, base: View, p: Live, cfg: C, weight: float, call: Call) -> Call:
        """The forward of an attached adapter: `call`, or what a method has for the hottest path of all."""
        return call

    def inverse(self, merged: View, p: Live, cfg: C, kept: Mapping[str, Tensor], weight: float) -> View:
        return self.view(merged, p, cfg, -weight)


def _dropped(x: Tensor, rate: float, p: Live) -> Tensor | None:
    if not p.training or not x.is_floating_point():
        return None
    from torch.nn.functional import dropout

    return dropout(x, rate)


def add_bias(bias: Tensor | None, shift: Tensor | None) -> Tensor | None:
    if bias is None or shift is None:
        return shift if bias is None else bias
    return bias + shift.to(bias.dtype)
