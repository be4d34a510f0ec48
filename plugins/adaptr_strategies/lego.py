"""LoRA-LEGO: the rank-1 units (b_j, a_j) of all inputs in k clusters; each cluster's mean is a unit of the result.
Zhao et al. 2024, arXiv:2409.16167.

`k`: the clusters, 0 for the inputs' mean rank. A mean is shorter than its members where they differ, and is brought to
their mean length; the result is scaled by √(r/k), r the inputs' mean rank. A unit counts by its weight, one of zero not
at all. k-means starts from units far from each other, so nothing is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.errors import BadConfig, Unsupported
from adaptr.strategies.base import Operators, Place, Strategy, Weights, beside, factored, own_dtype, weighted

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 100


@dataclass(frozen=True)
class Config:
    k: int = 0
    reweight: bool = True


class Lego(Strategy[Config]):
    name = "lego"
    jumps = "a unit is in a cluster, and a cluster in the result, whatever its weight"
    scale_free = True
    by_factors = True

    def check(self, cfg: Config) -> None:
        if cfg.k < 0:
            raise BadConfig("strategy `lego`: `k`", got=cfg.k, want="at least 1, or 0 for the inputs' mean rank")

    def combine(self, ops: Operators, weights: Weights, cfg: Config, place: Place) -> Operator:
        import torch

        if ops[0].experts:
            raise Unsupported(
                f"`lego` clusters the ranks of one matrix, and `{place.path}` is a stack of experts",
                hint="use `linear`",
            )
        found = [_units(factored(op), w) for op, w in zip(ops, weights, strict=True)]
        kept = [(units, abs(w)) for units, w in zip(found, weights, strict=True) if len(units)]
        if not kept:
            return beside([weighted(ops, [0.0] * len(ops))])
        units = torch.cat([units for units, _ in kept])
        counts = torch.cat([units.new_full((len(units),), count) for units, count in kept])
        order = _order(units)
        r = len(units) / len(kept)
        k = min(cfg.k or max(1, round(r)), len(units))
        means = _clustered(units[order], counts[order], k, cfg.reweight) * ((r / k) ** 0.25 if cfg.reweight else 1.0)
        out, means = ops[0].size[0], means.to(own_dtype(ops))
        B, A = means[:, :out], means[:, out:]
        return LowRank.of(B.t().contiguous(), A.contiguous(), ops[0].shape)


def _units(op: LowRank, weight: float) -> Tensor:
    """(r, out + in*k) fp64: b_j and a_j side by side, the scale shared, the weight's sign with b; none that is zero."""
    import torch

    B, A = op.factors(torch.float64)
    s = math.sqrt(abs(op.scale))
    sign = math.copysign(1.0, op.scale) * math.copysign(1.0, weight)
    there = (B != 0).any(0) & (A != 0).any(1)
    return torch.cat([B.t() * s * sign, A * s], dim=1)[there]


def _order(units: Tensor) -> Tensor:
    """An order of the units that goes by what they are, not by which input is first (r,)."""
    import torch

    # as bytes of numbers that begin with the sign and the exponent: the order of rows of floats, without making floats
    rows = [row.tobytes() for row in units.numpy().astype(">f8")]
    return torch.tensor(sorted(range(len(rows)), key=rows.__getitem__))


def _clustered(units: Tensor, counts: Tensor, k: int, reweight: bool) -> Tensor:
    """k-means, weighted: the means (k, out + in*k)."""
    import torch

    centres = _apart(units, k)
    labels = units.new_full((len(units),), -1, dtype=torch.int64)
    for _ in range(STEPS):
        nearest = _distances(units, centres).argmin(1)
        if torch.equal(nearest, labels):
            break
        labels = nearest
        centres = _means(units, counts, labels, centres)
    if not reweight:
        return centres
    lengths = _means(units.norm(dim=1, keepdim=True), counts, labels, centres.norm(dim=1, keepdim=True))
    size = centres.norm(dim=1, keepdim=True)
    scaled: Tensor = centres * (lengths / size.where(size > 0, 1.0))
    return scaled


def _distances(units: Tensor, centres: Tensor) -> Tensor:
    """(r, k). By differences: products lose half the digits of what is close."""
    import torch

    return torch.cdist(units, centres, compute_mode="donot_use_mm_for_euclid_dist")


def _means(values: Tensor, counts: Tensor, labels: Tensor, empty: Tensor) -> Tensor:
    """Weighted means by label (k, ...); those of `empty` where a cluster has nothing."""
    total = values.new_zeros(len(empty), values.shape[1]).index_add_(0, labels, values * counts[:, None])
    weight = values.new_zeros(len(empty)).index_add_(0, labels, counts)[:, None]
    return (total / weight.where(weight > 0, 1.0)).where(weight > 0, empty)


def _apart(units: Tensor, k: int) -> Tensor:
    """k units: the longest, then again and again the one farthest from those chosen."""
    import torch

    chosen = [int(units.norm(dim=1).argmax())]
    far = _distances(units, units[chosen]).squeeze(1)
    while len(chosen) < k:
        chosen.append(int(far.argmax()))
        far = torch.minimum(far, _distances(units, units[chosen[-1:]]).squeeze(1))
    return units[chosen]
