"""KnOTS: [D_1 ... D_n] = U Σ [V_1 ... V_n]ᵀ, then D = U Σ (V_i merged by TIES)ᵀ.  Stoica et al. 2024, arXiv:2410.19735.

`density`: the share of V_i that TIES keeps, over each target. U Σ is taken from the core space: nothing of the size of
D is decomposed, and the result has the rank of the inputs together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.strategies.base import ROUNDING, Operators, Place, Strategy, Weights
from adaptr.strategies.core import NOTHING, common
from adaptr.strategies.elementwise import ALONE, elect

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    density: float = 0.2
    lam: float = 1.0


class KnOTS(Strategy[Config]):
    name = "knots"
    space = "core"
    jumps = ALONE
    scale_free = True
    factor = "lam"

    def combine(self, ops: Operators, weights: Weights, cfg: Config, place: Place) -> Operator:
        import torch

        space = common(ops)
        # [D_1 ... D_n] = Q_out [C_1 ... C_n] (Q_in ⊕ ... ⊕ Q_in)ᵀ
        U, S, V = torch.linalg.svd(torch.cat(space.cores, dim=-1), full_matrices=False)
        top = S.amax(-1, keepdim=True)
        S = S.where(NOTHING * top < S, 0.0)
        k = max(int((S > 0).sum(-1).max()), 1)
        # what rounding leaves in V where it should be 0: the more, the less a direction has
        noise = (ROUNDING * top / S[..., :k]).unsqueeze(-1).nan_to_num(torch.inf)
        parts = V[..., :k, :].split(space.cores[0].shape[-1], dim=-1)
        rows = [_trimmed(space.into.combined(part), cfg.density, noise) for part in parts]
        merged = elect(rows, weights, cfg.lam, noise)
        B = space.out.combined((U * S.unsqueeze(-2))[..., :k].mT).mT.contiguous()
        return LowRank.of(B.to(space.dtype), merged.to(space.dtype), space.shape, space.experts)


def _trimmed(V: Tensor, density: float, noise: Tensor) -> Tensor:
    """The largest of V (k, in*k), those alike but for `noise` (k, 1) all or none, and nothing of what is only noise."""
    size = V.abs()
    k = max(1, round(density * size.numel()))
    edge = size.flatten().kthvalue(size.numel() - k + 1).values
    return V * ((size >= edge - noise) & (size > noise))
