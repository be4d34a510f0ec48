"""Strategies on the core space: the paper's formula on cores of at most (Σ r)², exact to fp64, nothing dense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from adaptr.algebra.core import Core
from adaptr.algebra.operator import Operator
from adaptr.contract.settings import C
from adaptr.strategies.base import ROUNDING, Made, Operators, Place, Strategy, Weights, factored, own_dtype

if TYPE_CHECKING:
    from torch import Tensor

#: Singular values below this share of the largest are zero.
NOTHING = 1e-10


class InCore(Strategy[C]):
    """The author supplies `core(cores, weights, cfg)`.

    Whatever is invariant under orthonormal bases on either side (sums, spectra, projections) gives in the core what it
    gives on the dense deltas. Deltas without a low rank take the place of their own factors. Of a stack of experts the
    author gets one expert at a time, as their ranks may differ.
    """

    space: ClassVar[str] = "core"

    def core(self, cores: list[Tensor], weights: Weights, cfg: C) -> Tensor:
        """The composed core (m, n), fp64, from the cores C_i (m, n) of the deltas."""
        raise NotImplementedError

    def combine(self, ops: Operators, weights: Weights, cfg: C, place: Place) -> Operator:
        return self.make(ops, weights, cfg, place, None, None).operator

    def make(
        self, ops: Operators, weights: Weights, cfg: C, place: Place, rank: int | None, energy: float | None
    ) -> Made:
        space = common(ops)
        C = self._composed(space.cores, weights, cfg)
        # an energy of 1 takes off what is only rounding
        whole = rank is None and energy is None
        low, error = space.truncate(C, rank, 1.0 if whole else energy)
        size, plain = float(C.square().sum()), space.combined(weights)
        cross = float((C * plain).sum()) if whole else low.inner(space.lift(plain))
        kept = size * (1 - error**2)
        apart = max(kept - 2 * cross + float(plain.square().sum()), 0.0)
        return Made(low, size, size * error**2, float(plain.square().sum()), apart)

    def _composed(self, cores: Sequence[Tensor], weights: Weights, cfg: C) -> Tensor:
        import torch

        if cores[0].ndim == 2:
            return self.core(list(cores), weights, cfg)
        return torch.stack([self.core(list(one), weights, cfg) for one in zip(*cores, strict=True)])


def common(ops: Operators) -> Core:
    """The common core of any operators, in fp64; what is lifted from it has the widest dtype of theirs."""
    return replace(Core.of([factored(op) for op in ops]), dtype=own_dtype(ops))


def total(cores: Sequence[Tensor], weights: Weights) -> Tensor:
    """Σ w C, without what is left of it by rounding where the terms cancel."""
    import torch

    terms = torch.stack([w * C for w, C in zip(weights, cores, strict=True)])
    made = terms.sum(0)
    return made.where(made.norm() > ROUNDING * terms.flatten(1).norm(dim=1).sum(), 0.0)


def orthogonal(U: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns (or rows): P Qᵀ of the SVD P S Qᵀ (Procrustes).

    Directions that U has not are none of the result: which they are would be rounding's choice.
    """
    P, _, Q = spectrum(U)
    return P @ Q


def spectrum(C: Tensor, size: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """(U (m, k), S (k,), Vᵀ (k, n)) of a matrix, without the directions of zero: k is 0 for a matrix of zeros.

    `size`: of what C is the difference of, whose rounding is no direction either.
    """
    import torch

    U, S, V = torch.linalg.svd(C, full_matrices=False)
    edge = max(NOTHING * float(S.max()), ROUNDING * size) if S.numel() else 0.0
    k = int((edge < S).sum())
    return U[:, :k], S[:k], V[:k]
