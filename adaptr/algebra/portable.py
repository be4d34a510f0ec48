"""Portable: a LowRank whose rows and columns have the same bits on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.algebra.lowrank import LowRank, is_experts
from adaptr.algebra.operator import rounded

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Portable(LowRank):
    """D = scale * B A as `whole` has it, its factors rounded to grids once, for many parts to be read in `work`."""

    __slots__ = ("made", "work")

    def __init__(self, whole: LowRank, work: torch.dtype) -> None:
        import torch

        from adaptr.algebra.exact import Product

        super().__init__(whole.B, whole.A, whole.scale)
        self.experts, self.work = whole.experts, work
        B, A = self.factors(torch.float64)
        self.made = Product(B * self.scale, A, work)

    def scaled(self, scale: float) -> Portable:
        return Portable(super().scaled(scale), self.work)

    def exact(self, dtype: torch.dtype) -> Portable:
        return self if dtype is self.work else Portable(self, dtype)

    def rows(self, s: slice, dtype: torch.dtype | None = None) -> Tensor:
        return rounded(self.made.rows(s).view(-1, *self.shape[1:]), dtype)

    def cols(self, s: slice | Tensor, dtype: torch.dtype | None = None) -> Tensor:
        kernel, made = self.shape[2:], self.made
        A = [A.view(len(A), -1, *kernel)[:, s].flatten(1) for A in made.A]
        return rounded(made.of(made.B, A, self.work).whole().view(self.shape[0], -1, *kernel), dtype)

    def add_rows(self, rows: Tensor, s: slice) -> Tensor:
        if self.experts and not is_experts(self.A, self.B, rows):
            flat = LowRank(self.B, self.A, self.scale)
            flat.experts = False
            return Portable(flat, self.work).add_rows(rows, s)
        return self.rows(s, rows.dtype).add_(rows)

    def add_cols(self, cols: Tensor, s: slice) -> Tensor:
        return self.cols(s, cols.dtype).add_(cols)
