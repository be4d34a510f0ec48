"""Iso-CTS: the common directions of the sum, then each task's own outside of them; orthogonal, one strength in all.
Marczak et al. 2025, arXiv:2502.04959.

Of the r directions of Σ w D_i the first `common` share stays; the others are replaced by the leading directions of
D_i - U Uᵀ D_i, as many of each task as far as it has them. D = α σ̄ U⊥ V⊥ᵀ, σ̄ the mean of all their singular values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.strategies.base import Weights
from adaptr.strategies.core import InCore, orthogonal, spectrum, total

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    common: float = 0.8
    alpha: float = 1.0


class IsoCTS(InCore[Config]):
    name = "iso-cts"
    jumps = "every direction has the same strength, and every input gives as many, whatever its weight"
    factor = "alpha"

    def core(self, cores: list[Tensor], weights: Weights, cfg: Config) -> Tensor:
        import torch

        tasks = [w * C for w, C in zip(weights, cores, strict=True) if w * C.norm() != 0]
        U, S, V = spectrum(total(cores, weights))
        r = len(S)
        own = min(round((r - int(r * cfg.common)) / max(len(tasks), 1)), r // max(len(tasks), 1))
        k = r - own * len(tasks)
        found = [(U[:, :k], S[:k], V[:k])]
        for C in tasks:
            u, s, v = spectrum(C - U[:, :k] @ (U[:, :k].mT @ C), float(C.norm()))
            found.append((u[:, :own], s[:own], v[:own]))
        U, S, V = (torch.cat([part[i] for part in found], dim=d) for i, d in ((0, 1), (1, 0), (2, 0)))
        return cfg.alpha * S.sum() / max(len(S), 1) * (orthogonal(U) @ orthogonal(V))
