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

if TYPE_CHECKING:
    import torch
    from torch import Tensor


#: The smallest diagonal entry of R beside the largest, from which on X is well conditioned.
MILD = 1e-2


@dataclass(frozen=True)
class Core:
    """Q_out (*e, out, m) and Q_in (*e, in*k, n) with orthonormal columns, `cores` (*e, m, n) an operator; all fp64.

    `shape`, `experts`: of the operators. `dtype`: what `lift` and `truncate` return, at least fp32.
    """

    Q_out: Tensor
    Q_in: Tensor
    cores: tuple[Tensor, ...]
    shape: tuple[int, ...]
    experts: bool
    dtype: torch.dtype

    @classmethod
    def of(cls, ops: Sequence[Operator]) -> Self:
        """The common core. Raises `NotPossible` if one has no exact low-rank form, `ShapeError` if shapes differ."""
        import functools

        import torch

        for other in ops[1:]:
            same_shape(ops[0], other)
        with torch.no_grad():
            low = [op.low_rank() for op in ops]
            pairs = [one.factors(torch.float64) for one in low]
            Q_out, R_out = orthonormal(torch.cat([B for B, _ in pairs], dim=-1))
            Q_in, R_in = orthonormal(torch.cat([A.mT for _, A in pairs], dim=-1))
            sizes = [B.shape[-1] for B, _ in pairs]
            parts = zip(torch.split(R_out, sizes, -1), torch.split(R_in, sizes, -1), low, strict=True)
            cores = tuple(one.scale * (left @ right.mT) for left, right, one in parts)
        dtype = functools.reduce(torch.promote_types, (op.dtype for op in ops), torch.float32)
        return cls(Q_out, Q_in, cores, ops[0].shape, ops[0].experts, dtype)

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
        B, A = (self.Q_out @ C, self.Q_in.mT) if C.shape[-2] > C.shape[-1] else (self.Q_out, C @ self.Q_in.mT)
        return LowRank.of(B.to(self.dtype), A.to(self.dtype), self.shape, self.experts)

    def truncate(self, C: Tensor, rank: int | None = None, energy: float | None = None) -> tuple[LowRank, float]:
        """The best operator of at most `rank`, or of the smallest that keeps `energy`, for a core C; its error."""
        import torch

        U, S, Vh = torch.linalg.svd(C, full_matrices=False)
        k, error = cut(S, rank, energy)
        return self.balanced(U[..., :k], S[..., :k], Vh[..., :k, :]), error

    def balanced(self, U: Tensor, S: Tensor, Vh: Tensor) -> LowRank:
        """Q_out U S Vh Q_inᵀ with the square root of S on either side: B (*e, out, k), A (*e, k, in*k)."""
        root = S.sqrt()
        B, A = self.Q_out @ (U * root.unsqueeze(-2)), root.unsqueeze(-1) * (Vh @ self.Q_in.mT)
        return LowRank.of(B.to(self.dtype), A.to(self.dtype), self.shape, self.experts)


def orthonormal(X: Tensor) -> tuple[Tensor, Tensor]:
    """X (*e, n, m), fp64, as Q R with orthonormal columns in Q.

    Twice as fast from the Cholesky factor of Xᵀ X, which squares the condition of X: only where that is small.
    """
    import torch

    R, failed = torch.linalg.cholesky_ex(X.mT @ X, upper=True)
    sizes = R.diagonal(dim1=-2, dim2=-1)
    if not sizes.numel() or bool(failed.any()) or bool((sizes.amin(-1) < MILD * sizes.amax(-1)).any()):
        Q, R = torch.linalg.qr(X)
        return Q, R
    eye = torch.eye(R.shape[-1], dtype=X.dtype, device=X.device)
    return X @ torch.linalg.solve_triangular(R, eye, upper=True), R


def cut(S: Tensor, rank: int | None, energy: float | None, total: float | None = None) -> tuple[int, float]:
    """(how many of the singular values S (*e, n) to keep, relative error of leaving the rest).

    `total`: ‖D‖² where S is not all of the spectrum. Raises `UsageError` for a rank below 1, an energy outside (0, 1].
    """
    if rank is None and energy is None:
        raise UsageError("truncating wants a rank or a share of the energy; neither was given")
    if rank is not None and rank < 1:
        raise UsageError(f"the rank is {rank}, wanted at least 1")
    if energy is not None and not 0 < energy <= 1:
        raise UsageError(f"the energy is {energy}, wanted a share above 0 and up to 1")
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
