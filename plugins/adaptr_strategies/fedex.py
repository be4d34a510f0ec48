"""FedEx-LoRA: the mean factors B̄ Ā, and the residue Σ w B_i A_i - B̄ Ā that makes them exact.  Singhal et al. 2024,
arXiv:2410.09432.

The first r of the result's ranks are the mean factors, the rest the residue. `residue`: its rank, 0 for all of it (the
paper's, exact). Weights are divided by their sum; inputs must have one rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.algebra.core import Core
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.algebra.sum import Sum
from adaptr.errors import BadConfig, Unsupported
from adaptr.strategies.base import Operators, Place, Strategy, Weights, own_dtype

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    residue: int = 0


class FedEx(Strategy[Config]):
    name = "fedex"
    normalize = True
    by_factors = True

    def check(self, cfg: Config) -> None:
        if cfg.residue < 0:
            raise BadConfig("strategy `fedex`: `residue`", got=cfg.residue, want="a rank, or 0 for all of it")

    def combine(self, ops: Operators, weights: Weights, cfg: Config, place: Place) -> Operator:
        low = [op for op in ops if isinstance(op, LowRank)]
        if len(low) < len(ops) or len({one.A.shape for one in low}) > 1:
            raise Unsupported(
                f"`fedex` averages the factors of LoRAs of one rank, and those at `{place.path}` differ",
                hint="use `linear`",
            )
        mean = _mean(low, weights)
        space = Core.of([*low, mean])
        C = space.combined([*weights, -1.0])
        residue, _ = space.truncate(C, cfg.residue or None, 1.0)
        return Sum(mean, residue).low_rank()


def _mean(ops: list[LowRank], weights: Weights) -> LowRank:
    """Σ w B_i and Σ w A_i as factors, scales in B."""
    import torch

    dtype = own_dtype(ops)

    def total(parts: list[Tensor]) -> Tensor:
        return torch.stack([w * part.to(dtype) for w, part in zip(weights, parts, strict=True)]).sum(0)

    made = LowRank(total([op.B.to(dtype) * op.scale for op in ops]), total([op.A for op in ops]))
    made.experts = ops[0].experts
    return made
