"""DoRA: W' = m (W + s B A) / ‖W + s B A‖, norms per output row.  Liu et al. 2024, arXiv:2402.09353.

m starts as ‖W‖, so a fresh adapter is the identity. The norm is taken out of the gradient, as in the paper's section
4.3. It is computed on the factors, never from a dense W + s B A, in fp32 or better, and kept while no gradient flows.

Choose it where LoRA of a low rank is nearly enough: at the same rank it comes nearer to full fine-tuning in the paper,
at few numbers more. A step takes longer and more memory than LoRA's, and composing it needs the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import LowRank, Param, Row, Target, Transform, View
from adaptr.adapter.tensors import Wide
from adaptr.contract import Costs, Live
from adaptr.contract.view import ALL
from adaptr.precision import wide, widest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adaptr.contract.view import Call


@dataclass(frozen=True)
class Config:
    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False


class DoRA(Transform[Config]):
    name = "dora"
    params = {
        "A": Param("r in *k", init="kaiming"),
        "B": Param("out r *1", init="zeros"),
        "m": Param("out", init="custom"),
    }
    kinds = frozenset({"linear", "linear_t", "embedding", "conv1d", "conv2d", "conv3d"})
    targets = ("all-linear",)
    rowwise = True
    portable = True

    def scale(self, cfg: Config) -> float:
        return cfg.alpha / (cfg.r**0.5 if cfg.rslora else cfg.r)

    def low_rank(self, p: Live, cfg: Config) -> LowRank:
        return LowRank(p["B"], p["A"], self.scale(cfg))

    def weight(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        V = self.low_rank(p, cfg).add_rows(W, slice(None))
        return V * over_rows(p["m"].to(V.dtype) / row_norms(V.detach()), V)

    def exactly(self, W: Tensor, p: Live, cfg: Config, dtype: torch.dtype) -> Tensor:
        V, g = self.raised(W, p, cfg, dtype)
        return V * over_rows(g, V)

    def raised(self, W: Tensor, p: Live, cfg: Config, exact: torch.dtype | None) -> tuple[Tensor, Tensor]:
        """V = W + s B A and m / ‖V‖. `exact`: as a View says it."""
        if exact is None:
            V = self.low_rank(p, cfg).add_rows(W, ALL)
            return V, p["m"] / row_norms(V)
        from adaptr.algebra.exact import norms

        V = self.low_rank(p, cfg).exact(exact).add_rows(W, ALL)
        return V, (p["m"].double() / nonzero(norms(V))).to(V.dtype)

    def forward(self, base: View, x: Tensor, p: Live, cfg: Config) -> Tensor:
        op = self.low_rank(p, cfg)
        if op.A.ndim != 2 or not x.is_floating_point() or (cfg.dropout and p.training):
            return self.general(base, x, p, cfg)
        g = self.kept_gain(base, p, cfg)
        y, b = op.forward(base, x), base.bias
        if g.dtype is not y.dtype:
            g = g.to(y.dtype)
        if b is not None:
            return (y - b) * g + b
        return y * g if y.requires_grad or g.requires_grad else y.mul_(g)

    def live(self, base: View, p: Live, cfg: Config, weight: float, call: Call) -> Call:
        slots = p.slots
        if base.plain is None or p["A"].ndim != 2 or cfg.dropout or weight != 1.0 or slots is None:
            return call
        from adaptr.algebra.fused import scaled

        return scaled(base, slots, self.scale(cfg), lambda: self.kept_gain(base, p, cfg), call)

    def kept_gain(self, base: View, p: Live, cfg: Config) -> Tensor:
        return p.derived("g", (*base.sources(), *p.sources(1.0)), lambda: self.gain(base, p, cfg))

    def general(self, base: View, x: Tensor, p: Live, cfg: Config) -> Tensor:
        """Convolutions, look-up tables, dropout: y = base(x) + (g - 1)∘(W x') + g∘(s B A x'), x' the dropped-out x."""
        from torch.nn.functional import dropout

        low_rank, b = self.low_rank(p, cfg), base.bias
        W = wide(base.weight.detach())
        g = wide(p["m"]) / row_norms(low_rank.add_rows(W, slice(None))).detach()

        def bare(x: Tensor) -> Tensor:
            y: Tensor = base(x)
            return y if b is None else y - base.along(b)

        y = bare(x)
        dropping = cfg.dropout and p.training and x.is_floating_point()
        given = dropout(x, cfg.dropout) if dropping else x
        direct = bare(given) if dropping else y.clone()
        both = low_rank.forward(base.then(call=lambda _: direct.clone()), given)
        out = y - direct + both * base.along(g.to(y.dtype))
        return out if b is None else out + base.along(b)

    def gain(self, base: View, p: Live, cfg: Config) -> Tensor:
        """m / ‖W + s B A‖ per output row, from ‖W‖² + 2 s (W Aᵀ)∘B + s² (B A Aᵀ)∘B."""
        W, A, B, s = base.weight.detach(), p["A"].detach(), p["B"].detach(), self.scale(cfg)
        dtype = widest(W.dtype, A.dtype)
        W, A, B = W.to(dtype), A.to(dtype), B.to(dtype)
        cross = W @ A.t() * (2 * s) + B @ (A @ A.t()) * (s * s)
        squares = (W * W).sum(1) + (cross * B).sum(1)
        return wide(p["m"]) / nonzero(squares.clamp(min=0).sqrt())

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        """The output is kept before it is multiplied by g, and g with the norm that it is made of."""
        if not target.is_linear or cfg.dropout:
            return None
        out = target.shape[0]
        return Costs(True, token=cfg.r + out, once=2 * out, flops=2 * cfg.r * sum(target.shape))

    def row(self, target: Target, base: View, p: Live) -> Row:
        """y = g ∘ (base(x) - b + s B A x) + b."""
        cfg, p = self.config(target.config), Wide(p)
        g, b = self.gain(base, p, cfg), base.bias
        shift = None if b is None else (1 - g) * b.to(g.dtype)
        return Row(p["A"], p["B"] * g[:, None] * self.scale(cfg), gain=g, shift=shift)

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"m": row_norms(base.weight).float()}

    def keep(self, base: View, p: Live, cfg: Config, rows: slice) -> dict[str, Tensor]:
        return {"g": self.raised(base.rows(rows), self.sliced(p, cfg, rows), cfg, base.exact)[1]}

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        def rows(s: slice) -> Tensor:
            W = merged.rows(s)
            g = over_rows(kept["g"][s] * weight, W)
            part = self.sliced(p, cfg, s)
            op = self.low_rank(part, cfg)
            op = op if merged.exact is None else op.exact(merged.exact)
            D = op.add_rows(W.new_zeros(W.shape), ALL)
            return (W - g * D) / nonzero(1 - weight + g)

        return merged.then(rows=rows)


def row_norms(V: Tensor) -> Tensor:
    """‖V‖ per output row, in fp32 or better, with 1 for rows of zeros."""
    return nonzero(wide(V).flatten(1).norm(dim=1))


def nonzero(n: Tensor) -> Tensor:
    return n.where(n != 0, 1.0)


def over_rows(vector: Tensor, V: Tensor) -> Tensor:
    return vector.view(-1, *(1 for _ in V.shape[1:]))
