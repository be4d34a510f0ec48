"""Orthonormal columns as torch's `orthogonal` keeps them: reflections by what is trained, from a base."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def columns(tall: Tensor, base: Tensor) -> Tensor:
    """(d, r) of `tall` (d, r), r < d, by whose lower triangle is reflected, and `base` (d, d), in fp64."""
    import torch

    tall = tall.double()
    below = tall.tril(-1)
    made = torch.linalg.householder_product(below, 2 / (1 + (below * below).sum(0)))
    found: Tensor = base.double() @ (made * tall.diagonal().int().double())
    return found
