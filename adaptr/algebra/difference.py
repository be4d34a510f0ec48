"""Difference: D = W' - W of two readings of one weight, neither held: a transform against its base, a fine-tuned
checkpoint against the one it started from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adaptr.algebra.operator import Operator, in_dtype
from adaptr.contract import View
from adaptr.contract.view import ALL

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Difference(Operator):
    """D = scale * (after - before), for Views of logical weights of shape (*e, out, in, *k), read in fp32 or better.

    `rowwise`: whether a block of rows of `after` costs only that block; if not, D is read in one piece.
    """

    __slots__ = ("after", "before", "full", "rowwise")

    def __init__(
        self,
        before: View,
        after: View,
        shape: tuple[int, ...],
        scale: float = 1.0,
        experts: bool = False,
        rowwise: bool = True,
    ) -> None:
        self.before, self.after, self.full = before, after, shape
        self.scale, self.experts, self.rowwise = scale, experts, rowwise

    def scaled(self, scale: float) -> Difference:
        return Difference(self.before, self.after, self.full, scale, self.experts, self.rowwise)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.full

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.after.parts

    @property
    def dtype(self) -> torch.dtype:
        return self.before.rows(slice(0, 1)).dtype

    @property
    def live_dtype(self) -> torch.dtype:
        """Views of what is read from files are made of no tensors."""
        return super().live_dtype if self.tensors else self.dtype

    @property
    def device(self) -> torch.device:
        import torch

        return self.after.parts[0].device if self.after.parts else torch.device("cpu")

    def rows(self, s: slice, dtype: torch.dtype | None = None) -> Tensor:
        before = self.before.rows(s).clone()  # a reader may reuse its buffer for the next block it is asked for
        D = in_dtype(self.after.rows(s) - before, dtype)
        return D if self.scale == 1.0 else self.scale * D

    def blocks(self) -> Iterator[slice]:
        return super().blocks() if self.rowwise else iter((ALL,))
