"""The nearest operator of a lower rank, by the way that fits what D is made of.

Factors: SVD in the core, exact. Small matrices: dense SVD, exact. The rest: a randomised range finder with power
iterations, which only takes products with D; its error is measured, not estimated, as what is kept is a projection of D
(Halko, Martinsson and Tropp 2011, arXiv:0909.4061). Where much of the spectrum is wanted that costs more than all of it
by the eigenvectors of D Dᵀ, in fp64. D is read in blocks of rows, or of whole matrices of a stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from adaptr.algebra import stream
from adaptr.algebra.core import Core, cut
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import BLOCK, Operator
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

    if len(op.shape) == 1:
        raise NotPossible(f"a change of shape {op.shape} is that of a vector, which has no rank")
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

    if not op.experts and len(list(op.blocks())) > 1:
        return _by_triangle(op, rank, energy)
    blocks = (op.rows(s, torch.float64).flatten(2 if op.experts else 1) for s in op.blocks())
    U, S, Vh = map(torch.cat, zip(*(_leading(D, rank or min(op.size)) for D in blocks), strict=True))
    k, error = cut(S, rank, energy)
    return _balanced(op, U[..., :k], S[..., :k], Vh[..., :k, :]), error, float(S.square().sum())


def _leading(D: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The SVD of each matrix, with all values and the first k vectors."""
    import torch

    U, S, Vh = torch.linalg.svd(D, full_matrices=False)
    return U[..., :k].clone(), S, Vh[..., :k, :].clone()


def _by_triangle(op: Operator, rank: int | None, energy: float | None) -> tuple[LowRank, float, float]:
    """From R of D = Q R, or of Dᵀ where that is the tall one: as exact as the SVD of D, which is read in blocks."""
    import torch

    R = torch.empty((0, min(op.size)), dtype=torch.float64, device=op.device)
    for part in _thin(op):
        R = torch.linalg.qr(torch.cat([R, part]), mode="r").R
    _, S, Vh = torch.linalg.svd(R, full_matrices=False)
    k, error = cut(S, rank, energy)
    return _completed(op, Vh[:k].mT, S[:k]), error, float(S.square().sum())


def _thin(op: Operator) -> Iterator[Tensor]:
    """D, or Dᵀ where that is the tall one, in fp64 and blocks of rows that are taller than wide."""
    import torch

    if op.size[0] > op.size[1]:
        return (op.rows(s, torch.float64).flatten(1) for s in _blocks(op, op.size[1]))
    step = max(BLOCK // op.size[0], op.size[0])
    return (op.cols(slice(i, i + step), torch.float64).mT for i in range(0, op.size[1], step))


def _blocks(op: Operator, rows: int = 0) -> list[slice]:
    """The blocks of an operator, together where they are small, or fewer than so many rows."""
    found = list(op.blocks())
    if op.experts or len(found) < 2:
        return found
    height = found[0].stop - found[0].start
    together = max(1, max(rows, BLOCK // op.size[1]) // height)
    ends = [*found[::together], slice(op.size[0], None)]
    return [slice(one.start, two.start) for one, two in pairwise(ends)]


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

    squares, Q = torch.linalg.eigh(_gram(op))
    S = squares.flip(-1).clamp(min=0).sqrt()
    k, error = cut(S, rank, energy, total)
    return _completed(op, Q.flip(-1)[..., :k], S[..., :k]), error, total


def _gram(op: Operator) -> Tensor:
    """D Dᵀ or, where that is smaller, Dᵀ D, in fp64: (*e, side, side)."""
    import torch

    head, side = op.shape[:1] if op.experts else (), min(op.size)
    G = torch.zeros((*head, side, side), dtype=torch.float64, device=op.device)
    blocks = _blocks(op)
    for n, s in enumerate(blocks):
        D = op.rows(s, torch.float64).flatten(2 if op.experts else 1)
        if op.experts:
            G[s] = D.mT @ D if op.size[0] > op.size[1] else D @ D.mT
        elif op.size[0] > op.size[1]:
            G += D.mT @ D
        else:
            for t in blocks[n:]:
                part = D @ op.rows(t, torch.float64).flatten(1).mT
                G[s, t], G[t, s] = part, part.mT
    return G


def _completed(op: Operator, Q: Tensor, S: Tensor) -> LowRank:
    """The singular vectors Q (*e, side, k) of the smaller side and the values S, with those of the other side."""
    import torch

    some = S.clamp(min=torch.finfo(S.dtype).tiny).unsqueeze(-1)
    if op.size[0] > op.size[1]:
        return _balanced(op, (op.product(Q.mT) / some).mT, S, Q.mT)
    return _balanced(op, Q, S, op.back(Q.mT) / some)


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
