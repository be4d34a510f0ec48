"""Rotations of several factors with blocks: R = Bₘ ... B₁, Bᵢ = Pᵢ D Pᵢᵀ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr_plugins.transform._rotations import IN, blockwise

if TYPE_CHECKING:
    from torch import Tensor


def cayley(Q: Tensor) -> Tensor:
    """(I - S)(I + S)⁻¹ of the skew part S of each block."""
    import torch

    S, one = (Q - Q.mT) / 2, torch.eye(Q.shape[-1], dtype=Q.dtype, device=Q.device)
    found: Tensor = torch.linalg.solve(one + S, one - S, left=False)
    return found


def beside(W: Tensor, D: Tensor, side: str, back: bool = False) -> Tensor:
    """W Rᵀ of a weight (out, in, *k), or R W; and with R⁻¹ for R."""
    flat = W.flatten(1)
    return (turned(flat, D, back) if side == IN else turned(flat.mT, D, back).mT).reshape(W.shape)


def turned(x: Tensor, D: Tensor, back: bool = False) -> Tensor:
    """x Rᵀ of rows x (..., width) for blocks D (m, n, b, b), or x R, in the dtype of x."""
    D, numbers = D.to(x.dtype), range(len(D))
    for i in reversed(numbers) if back else numbers:
        x = moved(x, 2, 2**i, D) if i else x  # the first leaves all where it is
        x = blockwise(x, D[i] if back else D[i].mT)
        x = moved(x, 2**i, 2, D) if i else x
    return x


def moved(x: Tensor, far: int, near: int, D: Tensor) -> Tensor:
    """x with its chunks of b/2, which count `far` times `near`, counted the other way round: x P, and back x Pᵀ."""
    chunks = x.reshape(*x.shape[:-1], -1, far, near, D.shape[-1] // 2)
    return chunks.transpose(-3, -2).reshape(x.shape)
