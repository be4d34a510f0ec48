"""Strategies on the elements of dense deltas, in blocks of rows: memory for one result and one block of each input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.algebra import stream
from adaptr.algebra.dense import Dense
from adaptr.algebra.operator import Operator
from adaptr.contract.settings import C
from adaptr.strategies.base import ROUNDING, Made, Operators, Place, Strategy, Weights, apart, own_dtype
from adaptr.strategies.threshold import kth_largest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Elements of a block: 256 KiB of fp32 for each input, so that all of them stay in a core's cache.
BLOCK = 1 << 16
#: Why a mean of the values that agree jumps where a weight goes to 0.
ALONE = "a value that agrees with no other keeps its size at any weight"


class Elementwise(Strategy[C]):
    """The author supplies `block`, and `prepare` for what must be known of the whole delta first.

    A stack of experts is one delta. `draw(i)` in `block` gives 64 random bits (rows, in*k) int64 for the block of input
    i, the same whatever the blocks and threads are.
    """

    space: ClassVar[str] = "elements"

    def prepare(self, ops: Operators, cfg: C) -> list[Any]:
        """What `block` needs of each delta: usually a threshold."""
        return [None] * len(ops)

    def block(
        self, parts: list[Tensor], weights: Weights, cfg: C, ready: list[Any], draw: Callable[[int], Tensor]
    ) -> Tensor:
        """The result for a block: `parts` and the result are matrix rows (rows, in*k), in fp32 or in fp64 where one of
        the deltas is.

        `parts` may be written over. Comparisons and choices among floats cost several times what arithmetic does, so
        the steps below avoid them.
        """
        raise NotImplementedError

    def combine(self, ops: Operators, weights: Weights, cfg: C, place: Place) -> Operator:
        return self.make(ops, weights, cfg, place, None, None).operator

    def make(
        self, ops: Operators, weights: Weights, cfg: C, place: Place, rank: int | None, energy: float | None
    ) -> Made:
        import torch

        work = own_dtype(ops)
        D, size, plain, gap = torch.empty(ops[0].shape, dtype=work), 0.0, 0.0, 0.0
        whole, ready = rank is None and energy is None, self.prepare(ops, cfg)
        for s in blocks(*ops):
            parts = [own_rows(op, s, work) for op in ops]
            total = add(parts, weights) if whole else None
            made = self.block(parts, weights, cfg, ready, _drawing(ops[0], s, place))
            D[s] = made.view_as(D[s])
            size += square(made)
            if total is not None:
                plain += square(total)
                gap += square(total.sub_(made))
        exact = Dense(D, experts=ops[0].experts)
        if whole:
            return Made(exact, 0.0, 0.0, plain, gap)
        low, error = exact.truncate(rank, energy)
        return Made(low, size, size * error**2, *apart(low, ops, weights))


def own_rows(op: Operator, s: slice, dtype: torch.dtype) -> Tensor:
    """Rows of D as matrix rows (rows, in*k) in memory of their own."""
    found = op.rows(s, dtype).reshape(-1, op.size[1])
    held = {t.untyped_storage().data_ptr() for t in op.tensors}
    return found.clone() if found.untyped_storage().data_ptr() in held else found


def blocks(*ops: Operator) -> list[slice]:
    """Slices of the first axis of at most `BLOCK` elements each; one, where reading a part costs the whole."""
    n = ops[0].shape[0]
    if not all(getattr(op, "rowwise", True) for op in ops):
        return [slice(0, n)]
    step = max(1, BLOCK // max(1, math.prod(ops[0].shape[1:])))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _drawing(op: Operator, s: slice, place: Place) -> Callable[[int], Tensor]:
    per_row = math.prod(op.shape[1:])
    count = (s.stop - s.start) * per_row

    def draw(number: int) -> Tensor:
        bits = stream.integers(place.seed, place.stream(number), count, s.start * per_row)
        return bits.view(-1, op.size[1])

    return draw


def largest(op: Operator, share: float) -> float:
    """The magnitude that the largest `share` of the elements reach."""
    n = math.prod(op.shape)
    return kth_largest(op, max(1, round(share * n)) if share else 0, blocks(op))


def add(parts: list[Tensor], weights: Weights) -> Tensor:
    """Σ w D."""
    total = parts[0] * weights[0]
    for D, w in zip(parts[1:], weights[1:], strict=True):
        total.add_(D, alpha=w)
    return total


def trim(D: Tensor, edge: float) -> Tensor:
    """D where its magnitude is `edge` or more, else 0."""
    import torch

    kept: Tensor = torch.hardshrink(D, _before(edge, D.dtype))
    return kept


def _before(edge: float, dtype: torch.dtype) -> float:
    """The largest number below a magnitude, not below 0: a value is kept above it, so from the edge on."""
    import torch

    at = torch.tensor(edge, dtype=dtype)
    return max(float(torch.nextafter(at, torch.zeros_like(at))), 0.0)


def thin(D: Tensor, bits: Tensor, keep: float) -> Tensor:
    """D, in place, with 0 where the random `bits` (rows, in*k) don't fall into a share `keep` of all."""
    import numpy as np

    if keep < 1:
        values = D.numpy()
        np.multiply(values, bits.numpy() < _edge(keep), out=values)
    return D


def _edge(keep: float) -> int:
    return int(keep * 2.0**64) - (1 << 63)


def elect(parts: list[Tensor], weights: Weights, lam: float, noise: Tensor | float = 0.0) -> Tensor:
    """TIES' last two steps: the sign with the larger total of w D, then the mean of the values that have it, times
    `lam`. A value counts by the size of its weight. `parts` are written over. `noise`: what rounding left in them.
    """
    import torch

    sign = _sign(parts, weights, noise).to(parts[0].dtype)
    total, count = torch.zeros_like(sign), torch.zeros_like(sign)
    for D, w in zip(parts, weights, strict=True):
        agreeing = D.mul_(w).mul_(sign).relu_()
        total.add_(agreeing)
        count.add_(agreeing.sign_(), alpha=abs(w))
    # nothing agrees: 0 divided by something
    return total.mul_(sign).div_(count.clamp_(min=torch.finfo(count.dtype).tiny)).mul_(lam)


def _sign(parts: list[Tensor], weights: Weights, noise: Tensor | float) -> Tensor:
    """The sign of Σ w D, fp64: 0 where the terms cancel but for rounding, which depends on their order."""
    import torch

    total = torch.zeros(parts[0].shape, dtype=torch.float64)
    size = torch.zeros_like(total)
    for D, w in zip(parts, weights, strict=True):
        term = D.double() * w
        total.add_(term)
        size.add_(term.abs_())
    edge = size.mul_(ROUNDING).add_(noise * sum(map(abs, weights)))
    return total.sign().mul_(total.abs().sub_(edge).relu_().sign_())


def square(D: Tensor) -> float:
    """‖D‖² of a block, in fp64: squares leave the range of fp32 soon."""
    import torch

    return float(torch.linalg.vector_norm(D, dtype=torch.float64)) ** 2
