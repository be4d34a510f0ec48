"""The nearest operator of a lower rank, by the way that fits what D is made of.

Factors: SVD in the core, exact. Small matrices: dense SVD, exact. The rest: a randomised range finder with power
iterations, which only takes products with D; its error is measured, not estimated, as what is kept is a projection of D
(Halko, Martinsson and Tropp 2011, arXiv:0909.4061). Where much of the spectrum is wanted that costs more than all of it
by the eigenvectors of D Dᵀ, in fp64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr import stream
from adaptr.algebra.core import Core, cut
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.errors import NotPossible

if TYPE_CHECKING:
    from torch import Tensor

#: Matrices whose smaller side is at most this are decomposed whole.
SMALL = 512
EXTRA, POWERS, FIRST = 10, 4, 32
#: The share of the spectrum from which on all of it is computed.
MUCH = 8


def truncated(op: Operator, rank: int | None, energy: float | None) -> tuple[LowRank, float, float]:
    """`op` at the given rank or energy, the relative Frobenius error of it, and ‖D‖²."""
    import torch

    with torch.no_grad():
        small = min(op.size) <= SMALL
        if 2 * op.rank <= min(op.size) or small:
            try:
                core = Core.of([op])
            except NotPossible:
                pass
            else:
                return *core.truncate(core.cores[0], rank, energy), float(core.cores[0].square().sum())
        return _whole(op, rank, energy) if small else _randomised(op, rank, energy)


def _whole(op: Operator, rank: int | None, energy: float | None) -> tuple[LowRank, float, float]:
    import torch

    D = op.dense(torch.float64).flatten(2 if op.experts else 1)
    U, S, Vh = torch.linalg.svd(D, full_matrices=False)
    k, error = cut(S, rank, energy)
    return _balanced(op, U[..., :k], S[..., :k], Vh[..., :k, :]), error, float(S.square().sum())


def _randomised(op: Operator, rank: int | None, energy: float | None) -> tuple[LowRank, float, float]:
    total, side = op.norm() ** 2, min(op.size)
    k = min(rank or FIRST, side)
    while k <= max(side // MUCH, FIRST):
        U, S, Vh = _range(op, k)
        enough = float((S[..., :k].double() ** 2).sum()) >= (energy or 0.0) * total
        if enough or k in (rank, side):
            kept, error = cut(S[..., :k], rank, energy, total)
            return _balanced(op, U[..., :kept], S[..., :kept], Vh[..., :kept, :]), error, total
        k = min(2 * k, rank or side, side)
    return _by_gram(op, rank, energy, total)


def _by_gram(op: Operator, rank: int | None, energy: float | None, total: float) -> tuple[LowRank, float, float]:
    import torch

    D = op.dense(torch.float64).flatten(2 if op.experts else 1)
    tall = op.size[0] > op.size[1]
    D = D.mT if tall else D
    squares, Q = torch.linalg.eigh(D @ D.mT)
    S = squares.flip(-1).clamp(min=0).sqrt()
    k, error = cut(S, rank, energy, total)
    Q, S = Q.flip(-1)[..., :k], S[..., :k]
    Vh = (Q.mT @ D) / S.clamp(min=torch.finfo(S.dtype).tiny).unsqueeze(-1)
    return _balanced(op, *((Vh.mT, S, Q.mT) if tall else (Q, S, Vh))), error, total


def _range(op: Operator, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The leading k (and a few more) singular triplets of D."""
    import torch

    head = op.shape[:1] if op.experts else ()
    p = min(k + EXTRA, *op.size)
    X = stream.signs(0, "range", (*head, p, op.size[1])).to(op.device, op.dtype)
    Q = torch.linalg.qr((op.product(X)).mT).Q
    for _ in range(POWERS):
        Z = torch.linalg.qr(op.back(Q.mT).mT).Q
        Q = torch.linalg.qr((op.product(Z.mT)).mT).Q
    # the last step in fp64: the error is what is left of ‖D‖² when the kept squares are taken off
    Q = torch.linalg.qr(Q.double()).Q
    U, S, Vh = torch.linalg.svd(op.back(Q.mT), full_matrices=False)
    return Q @ U, S, Vh


def _balanced(op: Operator, U: Tensor, S: Tensor, Vh: Tensor) -> LowRank:
    root = S.sqrt()
    B, A = U * root.unsqueeze(-2), root.unsqueeze(-1) * Vh
    return LowRank.of(B.to(op.dtype).contiguous(), A.to(op.dtype).contiguous(), op.shape, op.experts)
