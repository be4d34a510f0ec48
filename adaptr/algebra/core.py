"""Core space: several low-rank operators of one target in common orthonormal bases, D_i = Q_out C_i Q_inᵀ.

QR of the stacked factors gives cores of at most (Σ r)², in which sums, inner products, spectra and truncations are
those of the dense deltas, exact to fp64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator, same_shape
from adaptr.errors import UsageError
from adaptr.precision import widest

if TYPE_CHECKING:
    import torch
    from torch import Tensor


#: The smallest diagonal entry of R beside the largest, from which on X is well conditioned.
MILD = 1e-2
#: The smallest singular value beside the largest that an eigenvalue, its square, tells well enough.
WIDE = 1e-4


@dataclass(frozen=True)
class Basis:
    """Orthonormal rows Q = R⁻ᵀ X (*e, m, n) of stacked factors X, fp64, not formed: M Q is (M R⁻ᵀ) X.

    `R`: (*e, m, m), upper triangular, None where the rows of X are orthonormal already.
    """

    X: Tensor
    R: Tensor | None

    @classmethod
    def of(cls, X: Tensor) -> tuple[Self, Tensor]:
        """(the basis of the rows of X (*e, m, n), R with X = Rᵀ Q).

        From the Cholesky factor of X Xᵀ, which squares the condition of X: only where that is small, else by QR.
        """
        import torch

        R, failed = torch.linalg.cholesky_ex(X @ X.mT, upper=True)
        sizes = R.diagonal(dim1=-2, dim2=-1)
        if not sizes.numel() or bool(failed.any()) or bool((sizes.amin(-1) < MILD * sizes.amax(-1)).any()):
            Q, R = torch.linalg.qr(X.mT)
            return cls(Q.mT, None), R
        return cls(X, R), R

    def combined(self, M: Tensor) -> Tensor:
        """M Q (*e, k, n), for M (*e, k, m)."""
        import torch

        if self.R is None:
            return M @ self.X
        inner: Tensor = torch.linalg.solve_triangular(self.R.mT, M, upper=False, left=False)
        return inner @ self.X

    def rows(self) -> Tensor:
        """Q itself (*e, m, n)."""
        import torch

        return self.X if self.R is None else torch.linalg.solve_triangular(self.R.mT, self.X, upper=False)


@dataclass(frozen=True)
class Core:
    """Bases `out` of (*e, m, out) and `into` of (*e, n, in*k); `cores` (*e, m, n) an operator; all fp64.

    `shape`, `experts`: of the operators. `dtype`: what `lift` and `truncate` return, at least fp32.
    """

    out: Basis
    into: Basis
    cores: tuple[Tensor, ...]
    shape: tuple[int, ...]
    experts: bool
    dtype: torch.dtype

    @classmethod
    def of(cls, ops: Sequence[Operator]) -> Self:
        """The common core. Raises `NotPossible` if one has no exact low-rank form, `ShapeError` if shapes differ."""
        import torch

        for other in ops[1:]:
            same_shape(ops[0], other)
        with torch.no_grad():
            low = [[term.low_rank() for term in _terms(op)] for op in ops]
            pairs = [term.factors() for terms in low for term in terms]
            out, R_out = Basis.of(_stacked([B.mT for B, _ in pairs]))
            into, R_in = Basis.of(_stacked([A for _, A in pairs]))
            scales = _scales(low).to(R_out.device)
            sizes = [sum(term.A.shape[1 if term.experts else 0] for term in terms) for terms in low]
            parts = (torch.split(X, sizes, -1) for X in (R_out * scales, R_in))
            cores = tuple(left @ right.mT for left, right in zip(*parts, strict=True))
        dtype = widest(*(op.dtype for op in ops))
        return cls(out, into, cores, ops[0].shape, ops[0].experts, dtype)

    @property
    def Q_out(self) -> Tensor:
        """(*e, out, m), orthonormal columns."""
        return self.out.rows().mT

    @property
    def Q_in(self) -> Tensor:
        """(*e, in*k, n), orthonormal columns."""
        return self.into.rows().mT

    def combined(self, weights: Sequence[float]) -> Tensor:
        """Σ w_i C_i, (*e, m, n)."""
        import torch

        return torch.stack([w * C for w, C in zip(weights, self.cores, strict=True)]).sum(0)

    def gram(self) -> Tensor:
        """Inner products of the operators with each other, (number, number)."""
        import torch

        flat = torch.stack([C.flatten() for C in self.cores])
        return flat @ flat.t()

    def lift(self, C: Tensor) -> LowRank:
        """Q_out C Q_inᵀ as an operator, for a core C (*e, m, n)."""
        if C.shape[-2] > C.shape[-1]:
            return self._operator(self.out.combined(C.mT), self.into.rows())
        return self._operator(self.out.rows(), self.into.combined(C))

    def truncate(self, C: Tensor, rank: int | None = None, energy: float | None = None) -> tuple[LowRank, float]:
        """The best operator of at most `rank`, or of the smallest that keeps `energy`, for a core C; its error."""
        import torch

        top = _leading(C, rank) if energy is None else None
        if top is not None:
            U, S, Vh, error = top
            return self.balanced(U, S, Vh), error
        U, S, Vh = torch.linalg.svd(C, full_matrices=False)
        k, error = cut(S, rank, energy)
        return self.balanced(U[..., :k], S[..., :k], Vh[..., :k, :]), error

    def balanced(self, U: Tensor, S: Tensor, Vh: Tensor) -> LowRank:
        """Q_out U S Vh Q_inᵀ with the square root of S on either side: B (*e, out, k), A (*e, k, in*k)."""
        root = S.sqrt().unsqueeze(-1)
        return self._operator(self.out.combined(root * U.mT), self.into.combined(root * Vh))

    def _operator(self, B: Tensor, A: Tensor) -> LowRank:
        """From Bᵀ (*e, k, out) and A (*e, k, in*k)."""
        return LowRank.of(B.to(self.dtype).mT.contiguous(), A.to(self.dtype).contiguous(), self.shape, self.experts)


def _terms(op: Operator) -> Sequence[Operator]:
    return getattr(op, "terms", (op,))


def _scales(low: Sequence[Sequence[LowRank]]) -> Tensor:
    """The scale of each column of all B side by side, (Σr,)."""
    import torch

    found = [[term.scale] * term.A.shape[1 if term.experts else 0] for terms in low for term in terms]
    return torch.tensor([scale for scales in found for scale in scales], dtype=torch.float64)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Factors (*e, r, n) one below the other, in fp64: each read once, whatever its dtype and layout."""
    import torch

    sizes = [part.shape[-2] for part in parts]
    first = parts[0]
    made = torch.empty((*first.shape[:-2], sum(sizes), first.shape[-1]), dtype=torch.float64, device=first.device)
    for place, part in zip(torch.split(made, sizes, -2), parts, strict=True):
        place.copy_(part)
    return made


def _leading(C: Tensor, rank: int | None) -> tuple[Tensor, Tensor, Tensor, float] | None:
    """(U, S, Vᵀ) of the first `rank` singular triplets of C, and the relative error of leaving the rest.

    From the eigenvectors of C Cᵀ, in half the time of an SVD. That squares the condition: None where the spectrum that
    is kept is too wide, or what is left too small, to be told from rounding.
    """
    import torch

    if rank is None or not 0 < rank < min(C.shape[-2:]):
        return None
    squares, U = torch.linalg.eigh(C @ C.mT)
    edge = WIDE**2 * squares[..., -1]
    left = float(squares[..., :-rank].sum())
    if left <= float(edge.sum()) or bool((squares[..., -rank] <= edge).any()):
        return None
    U = U[..., -rank:].flip(-1)
    kept = U.mT @ C
    S = kept.norm(dim=-1)
    return U, S, kept / S.unsqueeze(-1), math.sqrt(left / float(squares.sum()))


def cut(S: Tensor, rank: int | None, energy: float | None, total: float | None = None) -> tuple[int, float]:
    """(how many of the singular values S (*e, n) to keep, relative error of leaving the rest).

    `total`: ‖D‖² where S is not all of the spectrum. Raises `UsageError` for a rank below 1, an energy outside (0, 1].
    """
    if rank is None and energy is None:
        raise UsageError("truncating", want="a rank or a share of the energy")
    if rank is not None and rank < 1:
        raise UsageError("the rank", got=rank, want="at least 1")
    if energy is not None and not 0 < energy <= 1:
        raise UsageError("the energy", got=energy, want="a share above 0 and up to 1")
    squares = S.double() ** 2
    squares = squares.flatten(0, -2).sum(0) if S.ndim > 1 else squares
    whole = float(squares.sum()) if total is None else total
    k = len(squares) if rank is None else min(rank, len(squares))
    if energy is not None:
        # a hair less than all, so that an energy of 1 does not keep what is only rounding
        reached = squares.cumsum(0) >= energy * whole * (1 - 1e-12)
        k = min(k, int(reached.int().argmax()) + 1 if bool(reached.any()) else len(squares))
    left = float(squares[k:].sum()) + max(whole - float(squares.sum()), 0.0)
    return k, math.sqrt(left / whole) if whole else 0.0
