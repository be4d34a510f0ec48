"""Transform methods: W' = W + w (T(W) - W). The author supplies `params` and `weight(W, p, cfg)`.

A transform is computed from the weight below it, so its place in a stack matters. Its strength w interpolates between
that weight and the transformed one. T gets weight and parameters in fp32 or better, whatever they are stored in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from adaptr.adapter.tensors import Tensors, Wide
from adaptr.contract import Live, View
from adaptr.contract.settings import C
from adaptr.contract.view import ALL
from adaptr.families.base import Method
from adaptr.precision import wide

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adaptr.contract.view import Call


class Transform(Method[C]):
    """A function of the base's weight."""

    family: ClassVar[str] = "transform"
    formulas: ClassVar[tuple[str, ...]] = ("weight|view",)
    #: Row i of T(W) depends on row i of W and of the parameters alone, so that weights can be merged block by block.
    rowwise: ClassVar[bool] = False

    def weight(self, W: Tensor, p: Live, cfg: C) -> Tensor:
        """T(W) of the logical weight (out, in, *k)."""
        raise NotImplementedError

    def exactly(self, W: Tensor, p: Live, cfg: C, dtype: torch.dtype) -> Tensor:
        """T(W) with the same bits on every machine, where `weight` sums: of W as a View that is `exact` gives it."""
        return self.weight(W, p, cfg)

    def bias(self, b: Tensor, p: Live, cfg: C) -> Tensor:
        """The transformed bias: most methods leave it."""
        return b

    def bias_of(self, b: Tensor, W: Callable[[], Tensor], p: Live, cfg: C) -> Tensor:
        """The same of methods that `couples`, which look at the weight below, W()."""
        return self.bias(b, p, cfg)

    def forward(self, base: View, x: Tensor, p: Live, cfg: C) -> Tensor:
        """The transformed layer's output. Override where there is a way without forming T(W)."""
        assert base.op is not None
        W, b, own = base.weight, base.bias, Wide(p)
        T = self.weight(wide(W), own, cfg).to(W.dtype)
        return base.op(x, T, None if b is None else self.bias_of(wide(b), lambda: wide(W), own, cfg).to(b.dtype))

    def view(self, base: View, p: Live, cfg: C, weight: float) -> View:
        def call(x: Tensor) -> Tensor:
            if weight == 1.0:
                return self.forward(base, x, p, cfg)
            y: Tensor = base(x)
            return y + weight * (self.forward(base, x, p, cfg) - y)

        def rows(s: slice) -> Tensor:
            read = base.rows(s if self.rowwise else ALL)
            W, own = wide(read), self.sliced(p, cfg, s) if self.rowwise else Wide(p)
            made = self.weight(W, own, cfg) if base.exact is None else self.exactly(W, own, cfg, base.exact)
            T = lerp(W, made, weight).to(read.dtype)
            return T if self.rowwise else T[s]

        def bias() -> Tensor | None:
            b = base.bias
            if b is None:
                return None
            made = self.bias_of(wide(b), lambda: wide(base.weight), Wide(p), cfg)
            return lerp(wide(b), made, weight).to(b.dtype)

        return base.then(
            call=self.live(base, p, cfg, weight, call), rows=rows, bias=bias, parts=tuple(p[name] for name in p)
        )

    def live(self, base: View, p: Live, cfg: C, weight: float, call: Call) -> Call:
        """The forward of an attached adapter: `call`, or what a method has for the hottest path of all."""
        return call

    def sliced(self, p: Live, cfg: C, s: slice) -> Tensors:
        """The parameters that belong to rows `s`, in fp32 or better."""
        if s == ALL:
            return Tensors({name: wide(p[name]) for name in p})
        values = vars(cfg)
        found = Tensors()
        for name in p:
            axis = self.params[name].row_axis(values)
            found[name] = wide(p[name] if axis is None else p[name][(ALL,) * axis + (s,)])
        return found


def lerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    return b if weight == 1.0 else a + weight * (b - a)
