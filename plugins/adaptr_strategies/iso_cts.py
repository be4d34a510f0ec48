"""Iso-CTS: the common directions of the sum, then each task's own outside of them; orthogonal, one strength in all.
Marczak et al. 2025, arXiv:2502.04959.

Of the r directions of Σ w D_i the first `common` share stays; the others are replaced by the leading directions of
D_i - U Uᵀ D_i, as many of each task. D = α σ̄ U⊥ V⊥ᵀ, σ̄ the mean of all their singular values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.strategies.base import Weights
from adaptr.strategies.core import InCore, orthogonal, spectrum

if TYPE_CHECKING:
    from torch import Tensor


class IsoCTS(InCore):
    name = "iso-cts"

    @dataclass(frozen=True)
    class Config:
        common: float = 0.8
        alpha: float = 1.0

    def core(self, cores: list[Tensor], weights: Weights, cfg: Any) -> Tensor:
        import torch

        scaled = [w * C for w, C in zip(weights, cores, strict=True)]
        U, S, V = spectrum(torch.stack(scaled).sum(0))
        r = S.shape[-1]
        own = round((r - int(r * cfg.common)) / len(cores))
        k = r - own * len(cores)
        found = [(U[..., :k], S[..., :k], V[..., :k, :])]
        for C in scaled:
            left = C - U[..., :k] @ (U[..., :k].mT @ C)
            u, s, v = torch.linalg.svd(left, full_matrices=False)
            found.append((u[..., :own], s[..., :own], v[..., :own, :]))
        U, S, V = (torch.cat([part[i] for part in found], dim=d) for i, d in ((0, -1), (1, -1), (2, -2)))
        return cfg.alpha * S.mean(-1)[..., None, None] * (orthogonal(U) @ orthogonal(V))
