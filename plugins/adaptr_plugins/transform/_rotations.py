"""Rotations in blocks: R (blocks, b, b), one for each b features in a row, or one for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from adaptr.precision import widest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: The side of a weight whose features are turned.
IN, OUT = "in", "out"


def rotation(Q: Tensor, b: int, terms: int = 0) -> Tensor:
    """R (blocks, b, b) from the entries of Q above the diagonal, (blocks, b (b - 1) / 2)."""
    import torch

    i, j = torch.triu_indices(b, b, 1, device=Q.device)
    upper = Q.new_zeros(len(Q), b, b).index_put((torch.arange(len(Q), device=Q.device).unsqueeze(1), i, j), Q)
    S, one = upper - upper.mT, torch.eye(b, dtype=Q.dtype, device=Q.device)
    if not terms:
        exact: Tensor = torch.linalg.solve(one - S, one + S, left=False)
        return exact
    R, power = one + 2 * S, S
    for _ in range(terms - 3):
        power = power @ S
        R = R + 2 * power
    return R + power @ S


def blockwise(x: Tensor, R: Tensor) -> Tensor:
    """x (..., width) times the block-diagonal R.

    A product of matrices for each block: of vectors for each row, R would be copied as often as there are rows.
    """
    b = R.shape[-1]
    parts = x.reshape(-1, x.shape[-1] // b, b).transpose(0, 1)
    return (parts @ R).transpose(0, 1).reshape(x.shape)


def turned(W: Tensor, R: Tensor, side: str = IN) -> Tensor:
    """W Rᵀ over all of in*k, or R W, in the dtype of W."""
    dtype = widest(W.dtype, R.dtype)
    return _whole(_parts(W.to(dtype), R.shape[-1], side) @ R.mT.to(dtype), W, side).to(W.dtype)


def exactly(R: Tensor, dtype: torch.dtype, side: str = IN) -> Callable[[Tensor], Tensor]:
    """W to W Rᵀ, or to R W, with the same bits for the same R on every machine."""
    from adaptr.algebra import exact

    b, blocks = R.shape[-1], exact.right(R.mT, dtype)
    return lambda W: _whole(exact.times(_parts(W, b, side), blocks, dtype), W, side)


def _parts(W: Tensor, b: int, side: str) -> Tensor:
    """W as (blocks, n, b), the features that are turned last."""
    flat = W.flatten(1)
    return flat.view(len(W), -1, b).transpose(0, 1) if side == IN else flat.view(-1, b, flat.shape[1]).mT


def _whole(parts: Tensor, W: Tensor, side: str) -> Tensor:
    return (parts.transpose(0, 1) if side == IN else parts.mT).reshape(W.shape)
