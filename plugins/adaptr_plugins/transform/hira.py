"""HiRA: W' = W ∘ (1 + B A).  Huang et al. 2025, ICLR (OpenReview TwJrTz9cRS; no arXiv id found).

What is zero in W stays zero. Convolutions have factors as LoRA's; on look-up tables the factor that is looked up starts
at zero. Dropout is on the input of the part that W ∘ B A is.

Choose it where a change of high rank is needed at LoRA's numbers: each element of the weight is multiplied, and so may
change in its own way. What is near zero in the base stays so, the whole change is made in every step, and composing
needs the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import LowRank, Param, Target, Transform, View
from adaptr.contract import Live
from adaptr.contract.view import ALL
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    r: int = 32
    dropout: float = 0.0


class HiRA(Transform[Config]):
    name = "hira"
    params = {"A": Param("r in *k", init="kaiming"), "B": Param("out r *1")}
    kinds = frozenset({"linear", "linear_t", "embedding", "conv1d", "conv2d", "conv3d"})
    targets = ("attn.q", "attn.v")
    rowwise = True
    portable = True
    small = {"r": 2}

    def weight(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        return W + W * LowRank(p["B"], p["A"]).rows(ALL, W.dtype)

    def forward(self, base: View, x: Tensor, p: Live, cfg: Config) -> Tensor:
        if not (cfg.dropout and p.training and x.is_floating_point()):
            return super().forward(base, x, p, cfg)
        from torch.nn.functional import dropout

        assert base.op is not None
        W = base.weight
        part = (wide(W) * LowRank(p["B"], p["A"]).dense()).to(W.dtype)
        y: Tensor = base(x)
        return y + base.op(dropout(x, cfg.dropout), part, None)

    def view(self, base: View, p: Live, cfg: Config, weight: float) -> View:
        made = super().view(base, p, cfg, weight)
        if base.exact is None:
            return made

        def rows(s: slice) -> Tensor:
            W = base.rows(s)
            return W * self.factor(s, p, cfg, weight, base)

        return made.then(rows=rows)

    def factor(self, s: slice, p: Live, cfg: Config, weight: float, base: View) -> Tensor:
        """1 + w B A at rows s, with the same bits on every machine where the base is `exact`."""
        own = self.sliced(p, cfg, s)
        op = LowRank(own["B"], own["A"])
        found = op.dense() if base.exact is None else op.exact(base.exact).rows(ALL, base.exact)
        return 1 + weight * found

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        """Where the factor is zero nothing can be recovered: the receipt's patch holds those elements."""

        def rows(s: slice) -> Tensor:
            factor = self.factor(s, p, cfg, weight, merged)
            read = merged.rows(s)
            return (wide(read) / factor.where(factor != 0, 1.0)).to(read.dtype)

        return merged.then(rows=rows)

    def init_rule(self, param: str, target: Target) -> str:
        if target.looked_up:
            return {"A": "zeros", "B": "normal:1"}[param]
        return super().init_rule(param, target)
