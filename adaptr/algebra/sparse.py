"""Sparse: D has values at given places and is zero elsewhere. Places are flat int64 indices in C order, increasing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaptr.algebra.dense import Dense
from adaptr.algebra.operator import Operator, in_dtype
from adaptr.contract import View
from adaptr.contract.view import ALL
from adaptr.errors import InputError, phrases
from adaptr.precision import at_least

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def require_places(i: Tensor, count: int, method: str) -> None:
    """Raises `InputError` for places outside a weight of `count` elements, or that don't increase.

    Not while compiling, nor where looking would hold up a device: an adapter comes from the CPU.
    """
    import torch

    if i.device.type != "cpu" or not len(i) or torch.compiler.is_compiling():
        return
    if i.dtype != torch.int64 or i[0] < 0 or i[-1] >= count or not bool((i[1:] > i[:-1]).all()):
        raise InputError(
            f"`{method}`: the places `i`",
            verb="are",
            got="not in order or out of range",
            want=f"increasing whole numbers below {count}",
            hint=phrases.AGAIN,
        )


class Sparse(Operator):
    """D.flatten()[indices] = scale * values. indices (n,) int64, strictly increasing; values (n,)."""

    __slots__ = ("full", "indices", "values")

    dense_live = True

    def __init__(
        self, indices: Tensor, values: Tensor, shape: tuple[int, ...], scale: float = 1.0, experts: bool = False
    ) -> None:
        self.indices, self.values, self.full = indices, values, shape
        self.scale, self.experts = scale, experts

    def scaled(self, scale: float) -> Sparse:
        return Sparse(self.indices, self.values, self.full, scale, self.experts)

    @property
    def portable(self) -> bool:
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        return self.full

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.indices, self.values)

    @property
    def rank(self) -> int:
        return min(len(self.indices), *self.size)

    def rows(self, s: slice, dtype: torch.dtype | None = None) -> Tensor:
        import torch

        width, n = math.prod(self.full[1:]), self.full[0]
        start, stop, _ = s.indices(n)
        indices, values = self.indices, in_dtype(self.values, dtype)
        if (start, stop) != (0, n):
            edges = torch.tensor([start * width, stop * width], device=indices.device)
            lo, hi = torch.searchsorted(indices, edges).tolist()
            indices, values = indices[lo:hi] - start * width, values[lo:hi]
        block = values.new_zeros((stop - start) * width)
        return block.index_put((indices,), self.scale * values).view(-1, *self.full[1:])

    def cols(self, s: slice | Tensor, dtype: torch.dtype | None = None) -> Tensor:
        import torch

        if not isinstance(s, slice):
            return self.rows(ALL, dtype)[:, s]
        out, into = self.full
        start, stop, _ = s.indices(into)
        i, j = self._places()
        here = torch.nonzero((j >= start) & (j < stop)).squeeze(-1)
        values = in_dtype(self.values, dtype)[here]
        return values.new_zeros(out, stop - start).index_put((i[here], j[here] - start), self.scale * values)

    def product(self, x: Tensor) -> Tensor:
        if self.experts:
            return super().product(x)
        x = at_least(x, self.values.dtype)
        return (self._matrix(x) @ x.reshape(-1, x.shape[-1]).t()).t().reshape(*x.shape[:-1], -1)

    def back(self, y: Tensor) -> Tensor:
        if self.experts:
            return super().back(y)
        y = at_least(y, self.values.dtype)
        return (self._matrix(y).t() @ y.reshape(-1, y.shape[-1]).t()).t().reshape(*y.shape[:-1], -1)

    def side(self, base: View, x: Tensor) -> Tensor:
        # dense for once: torch's sparse products neither compile nor give gradients faster
        if not x.is_floating_point() or len(self.full) > 2:
            return super().side(base, x)
        x = at_least(x, self.values.dtype)
        return x @ self.dense(x.dtype).mT

    def _matrix(self, like: Tensor) -> Tensor:
        """(out, in*k) as torch's own sparse matrix."""
        import torch

        values = self.scale * self.values.to(like.dtype)
        return torch.sparse_coo_tensor(
            torch.stack(self._places()), values, self.size, is_coalesced=True, check_invariants=False
        )

    def _places(self) -> tuple[Tensor, Tensor]:
        return self.indices // self.size[1], self.indices % self.size[1]

    def _inner(self, other: Operator) -> float | None:
        import torch

        mine = self.scale * self.values.double()
        if isinstance(other, Dense):
            return other.scale * float(mine @ other.D.flatten()[self.indices].double())
        if not isinstance(other, Sparse) or not len(other.indices):
            return None if not isinstance(other, Sparse) else 0.0
        at = torch.searchsorted(other.indices, self.indices).clamp(max=len(other.indices) - 1)
        both = other.indices[at] == self.indices
        return other.scale * float(mine[both] @ other.values[at][both].double())
