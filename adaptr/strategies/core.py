"""Strategies on the core space: the paper's formula on cores of at most (Σ r)², exact to fp64, nothing dense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.algebra.core import Core
from adaptr.algebra.operator import Operator
from adaptr.strategies.base import Made, Operators, Place, Strategy, Weights, factored

if TYPE_CHECKING:
    from torch import Tensor


class InCore(Strategy):
    """The author supplies `core(cores, weights, cfg)`.

    Whatever is invariant under orthonormal bases on either side (sums, spectra, projections) gives in the core what it
    gives on the dense deltas. Deltas without a low rank take the place of their own factors.
    """

    space: ClassVar[str] = "core"

    def core(self, cores: list[Tensor], weights: Weights, cfg: Any) -> Tensor:
        """The composed core (*e, m, n), fp64, from the cores C_i (*e, m, n) of the deltas."""
        raise NotImplementedError

    def combine(self, ops: Operators, weights: Weights, cfg: Any, place: Place) -> Operator:
        return self.make(ops, weights, cfg, place, None, None).operator

    def make(
        self, ops: Operators, weights: Weights, cfg: Any, place: Place, rank: int | None, energy: float | None
    ) -> Made:
        space = Core.of([factored(op) for op in ops])
        C = self.core(list(space.cores), weights, cfg)
        # an energy of 1 takes off what is only rounding
        whole = rank is None and energy is None
        low, error = space.truncate(C, rank, 1.0 if whole else energy)
        size, plain = float(C.square().sum()), space.combined(weights)
        cross = float((C * plain).sum()) if whole else low.inner(space.lift(plain))
        kept = size * (1 - error**2)
        apart = max(kept - 2 * cross + float(plain.square().sum()), 0.0)
        return Made(low, size, size * error**2, float(plain.square().sum()), apart)


def orthogonal(U: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns (or rows): P Qᵀ of the SVD P S Qᵀ (Procrustes)."""
    import torch

    P, _, Q = torch.linalg.svd(U, full_matrices=False)
    nearest: Tensor = P @ Q
    return nearest


def spectrum(C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, Vᵀ) of a core, without the directions of zero."""
    import torch

    U, S, V = torch.linalg.svd(C, full_matrices=False)
    top = S.amax(-1, keepdim=True)
    k = max(int((1e-10 * top < S).sum(-1).max()), 1)
    return U[..., :k], S[..., :k], V[..., :k, :]
