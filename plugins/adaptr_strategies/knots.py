"""KnOTS: [D_1 ... D_n] = U Σ [V_1 ... V_n]ᵀ, then D = U Σ (V_i merged by TIES)ᵀ.  Stoica et al. 2024, arXiv:2410.19735.

`density`: the share of V_i that TIES keeps, over each target. U Σ is taken from the core space: nothing of the size of
D is decomposed, and the result has the rank of the inputs together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.strategies.base import Operators, Place, Strategy, Weights, factored
from adaptr.strategies.core import spectrum
from adaptr.strategies.elementwise import elect


class KnOTS(Strategy):
    name = "knots"
    space = "core"

    @dataclass(frozen=True)
    class Config:
        density: float = 0.2
        lam: float = 1.0

    def combine(self, ops: Operators, weights: Weights, cfg: Any, place: Place) -> Operator:
        import torch

        from adaptr.algebra.core import Core

        space = Core.of([factored(op) for op in ops])
        # [D_1 ... D_n] = Q_out [C_1 ... C_n] (Q_in ⊕ ... ⊕ Q_in)ᵀ
        U, S, V = spectrum(torch.cat(space.cores, dim=-1))
        rows = [space.into.combined(part) for part in V.split(space.cores[0].shape[-1], dim=-1)]
        merged = elect([_trimmed(row, cfg.density) for row in rows], weights, cfg.lam)
        B = space.out.combined((U * S.unsqueeze(-2)).mT).mT.contiguous()
        return LowRank.of(B.to(space.dtype), merged.to(space.dtype), space.shape, space.experts)


def _trimmed(V: Any, density: float) -> Any:
    size = V.abs().flatten()
    k = max(1, round(density * size.numel()))
    edge = size.kthvalue(size.numel() - k + 1).values
    return V * (V.abs() >= edge)
