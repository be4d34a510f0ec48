"""Dense: D as it is, the task vector of a full fine-tuning."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaptr.algebra.operator import Operator, in_dtype

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Dense(Operator):
    """D = scale * D, of shape (*e, out, in, *k). `experts` says whether the first axis counts experts."""

    __slots__ = ("D",)

    dense_live = True

    def __init__(self, D: Tensor, scale: float = 1.0, experts: bool = False) -> None:
        self.D, self.scale, self.experts = D, scale, experts

    def scaled(self, scale: float) -> Dense:
        return Dense(self.D, scale, self.experts)

    @property
    def portable(self) -> bool:
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.D.shape)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.D,)

    def rows(self, s: slice, dtype: torch.dtype | None = None) -> Tensor:
        D = in_dtype(self.D[s], dtype)
        return D if self.scale == 1.0 else self.scale * D

    def cols(self, s: slice | Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return self.scale * in_dtype(self.D[:, s], dtype)

    def norm(self) -> float:
        parts = (self.D[s].flatten().double() for s in self.blocks())
        return abs(self.scale) * math.sqrt(sum(float(part @ part) for part in parts))


def formed(op: Operator) -> Tensor:
    """D in its dtype, rounded once: of terms that cancel, sums in fp32 leave little that is right."""
    import torch

    if isinstance(op, Dense):
        return op.dense()
    D = torch.empty(op.shape, dtype=op.dtype, device=op.device)
    for s in op.blocks():
        D[s] = op.rows(s, torch.float64)
    return D
