"""What meets a weight: a product of two factors, a vector or a number, by elements or as a matrix over the inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr import LowRank
from adaptr.contract.view import ALL

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adaptr.contract import Live


def product(B: Tensor, A: Tensor, shape: tuple[int, ...], like: Tensor, exact: torch.dtype | None) -> Tensor:
    """B A (out, in, *k). `exact`: as a View says it."""
    made = LowRank.of(B, A.flatten(1), shape)
    made = made if exact is None else made.exact(exact)
    return made.add_rows(like.new_zeros(shape), ALL)


def mixed(W: Tensor, B: Tensor, A: Tensor, exact: torch.dtype | None) -> Tensor:
    """W B A over the inputs of W (out, in, *k), B (in, r) and A (r, in)."""
    X = W.movedim(1, -1)
    flat = X.reshape(-1, X.shape[-1])
    if exact is None:
        return (flat @ B @ A).view(X.shape).movedim(-1, 1)
    from adaptr.algebra.exact import Product

    made: Tensor = Product(Product(flat, B, exact).whole(), A, exact).whole()
    return made.view(X.shape).movedim(-1, 1)


def unmixed(W: Tensor, B: Tensor, A: Tensor, scale: float) -> Tensor:
    """W (I + s B A)⁻¹ over the inputs, I - s B (I + s A B)⁻¹ A; where there is no inverse, what comes nearest."""
    import torch

    X = W.double().movedim(1, -1)
    B, A = B.double(), A.double()
    core = torch.linalg.pinv(torch.eye(len(A), dtype=A.dtype, device=A.device) + scale * A @ B)
    made: Tensor = X - scale * (X @ B) @ (core @ A)
    return made.movedim(-1, 1).to(W.dtype)


def over_columns(vector: Tensor, W: Tensor) -> Tensor:
    return vector.view(1, -1, *(1 for _ in W.shape[2:]))


def term(p: Live, name: str, like: Tensor, exact: torch.dtype | None = None) -> Tensor:
    """What meets a weight (out, in, *k) or a bias (out) there. `exact`: as a View says it."""
    if f"{name}d" in p:
        return product(p[f"{name}d"], p[f"{name}u"], (len(like), *like.shape[1:]), like, exact)
    if f"{name}v" in p:
        return p[f"{name}v"].view(-1, *(1 for _ in like.shape[1:]))
    return p[f"{name}c"] if f"{name}c" in p else like.new_zeros(1)


def gains(p: Live, W: Tensor, side: str, exact: torch.dtype | None) -> Tensor:
    """A as it meets the elements of W."""
    ones = tuple(1 for _ in W.shape[2:])
    if "Ad" in p:
        return product(p["Ad"], p["Au"], (*W.shape[:2], *ones), W, exact)
    return over_columns(p["Av"], W) if "Av" in p and side == "in" else term(p, "A", W, exact)
