"""TSV-Merge: the leading singular vectors of each task, made orthogonal to those of the others, with their own values.
Gargiulo et al. 2024, arXiv:2412.00081.

Of T tasks that change a target each keeps 1/T of its directions. U = [U_1 ... U_T] and V go to their nearest
orthonormal matrices; D = α U⊥ Σ V⊥ᵀ. `alpha`: the paper's 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.strategies.base import Weights
from adaptr.strategies.core import InCore, orthogonal, spectrum

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    alpha: float = 1.0


class TSV(InCore[Config]):
    name = "tsv"
    jumps = "every input gives as many directions, whatever its weight"
    factor = "alpha"

    def core(self, cores: list[Tensor], weights: Weights, cfg: Config) -> Tensor:
        import torch

        spectra = [spectrum(w * C) for w, C in zip(weights, cores, strict=True)]
        tasks = sum(len(S) > 0 for _, S, _ in spectra)
        kept = [_leading(*found, tasks) for found in spectra]
        U, S, V = (torch.cat([part[i] for part in kept], dim=d) for i, d in ((0, 1), (1, 0), (2, 0)))
        return cfg.alpha * (orthogonal(U) * S) @ orthogonal(V)


def _leading(U: Tensor, S: Tensor, V: Tensor, tasks: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first 1/T of the singular triplets, at least one."""
    k = max(1, len(S) // max(tasks, 1))
    return U[:, :k], S[:k], V[:k]
