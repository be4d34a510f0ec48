"""Strategies on the elements of dense deltas, in blocks of rows: memory for one result and one block of each input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr import stream
from adaptr.algebra.dense import Dense
from adaptr.algebra.operator import Operator
from adaptr.strategies.base import Made, Operators, Place, Strategy, Weights, apart
from adaptr.strategies.threshold import kth_largest

if TYPE_CHECKING:
    from torch import Tensor

#: Elements of a block: 1 MiB of fp32 for each input, which stays in a core's cache.
BLOCK = 1 << 18


class Elementwise(Strategy):
    """The author supplies `block`, and `prepare` for what must be known of the whole delta first.

    A stack of experts is one delta. `draw(i)` in `block` gives 64 random bits (rows, in*k) int64 for the block of input
    i, the same whatever the blocks and threads are.
    """

    space: ClassVar[str] = "elements"

    def prepare(self, ops: Operators, cfg: Any) -> list[Any]:
        """What `block` needs of each delta: usually a threshold."""
        return [None] * len(ops)

    def block(
        self, parts: list[Tensor], weights: Weights, cfg: Any, ready: list[Any], draw: Callable[[int], Tensor]
    ) -> Tensor:
        """The result for a block: `parts` and the result are matrix rows (rows, in*k) in fp32."""
        raise NotImplementedError

    def combine(self, ops: Operators, weights: Weights, cfg: Any, place: Place) -> Operator:
        return self.make(ops, weights, cfg, place, None, None).operator

    def make(
        self, ops: Operators, weights: Weights, cfg: Any, place: Place, rank: int | None, energy: float | None
    ) -> Made:
        import torch

        D, plain, gap = torch.empty(ops[0].shape), 0.0, 0.0
        ready = self.prepare(ops, cfg)
        for s in blocks(*ops):
            parts = [op.rows(s, torch.float32).reshape(-1, op.size[1]) for op in ops]
            total = add(parts, weights)
            made = self.block(parts, weights, cfg, ready, _drawing(ops[0], s, place))
            plain += square(total)
            gap += square(made - total)
            D[s] = made.view_as(D[s])
        exact = Dense(D, experts=ops[0].experts)
        if rank is None and energy is None:
            return Made(exact, 0.0, 0.0, plain, gap)
        low, error = exact.truncate(rank, energy)
        size = square(D)
        return Made(low, size, size * error**2, *apart(low, ops, weights))


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


def kept(bits: Tensor, keep: float) -> Tensor:
    """Which of the random `bits` fall into a share `keep` of all."""
    return bits < _edge(keep) if keep < 1 else bits == bits


def _edge(keep: float) -> int:
    return int(keep * 2.0**64) - (1 << 63)


def elect(parts: list[Tensor], weights: Weights, lam: float) -> Tensor:
    """TIES' last two steps: the sign with the larger total of w D, then the mean of the values that have it, times
    `lam`. A value counts by the size of its weight.
    """
    import torch

    values = [D * w for D, w in zip(parts, weights, strict=True)]
    sign = add(parts, weights).sign_()
    total, count = torch.zeros_like(sign), torch.zeros_like(sign)
    for value, w in zip(values, weights, strict=True):
        agrees = (value * sign) > 0
        total.add_(value * agrees)
        count.add_(agrees, alpha=abs(w))
    return total.div_(count.where(count > 0, 1.0)).mul_(lam)


def square(D: Tensor) -> float:
    """‖D‖², in fp64 where rounding would add up."""
    return float(D.flatten(1).square().sum(1).double().sum()) if D.ndim > 1 else float(D.double().square().sum())
