"""What methods have in common whose change is of low rank and made of the weight: W' = W + B(p) A(W, p)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr import Row, Target, Transform, View
from adaptr.adapter.tensors import Wide
from adaptr.contract import Live
from adaptr.contract.settings import C
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor


class Inward(Transform[C]):
    """The author supplies `writes` and `reads`, which get weight and parameters in fp32 or better."""

    def writes(self, p: Live, cfg: C) -> Tensor:
        """B (out, r)."""
        raise NotImplementedError

    def reads(self, W: Tensor, p: Live, cfg: C) -> Tensor:
        """A (r, in) of the weight W (out, in)."""
        raise NotImplementedError

    def weight(self, W: Tensor, p: Live, cfg: C) -> Tensor:
        return W + self.writes(p, cfg) @ self.reads(W, p, cfg)

    def forward(self, base: View, x: Tensor, p: Live, cfg: C) -> Tensor:
        own = Wide(p)
        sources = (*base.sources(), *p.sources(1.0))
        A = p.derived("A", sources, lambda: self.reads(wide(base.weight), own, cfg))
        y: Tensor = base(x)
        return y + (x.to(A.dtype) @ A.mT @ self.writes(own, cfg).mT).to(y.dtype)

    def row(self, target: Target, base: View, p: Live) -> Row:
        own, cfg = Wide(p), self.config(target.config)
        return Row(self.reads(wide(base.weight), own, cfg), self.writes(own, cfg))
