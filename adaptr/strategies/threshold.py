"""The k-th largest magnitude of an operator's elements, exact, in bounded memory: nothing is sorted.

The bits of non-negative floats are ordered as integers. A first pass counts the upper half of the bits, a second the
lower half of those in the bin that the k-th falls in.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaptr.algebra.operator import Operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

HALF = 16
#: Deltas of up to so many elements are formed once for both passes, larger ones for each.
KEEP = 1 << 22


def kth_largest(op: Operator, k: int, blocks: list[slice]) -> float:
    """The magnitude that `k` elements of D (fp32) reach or exceed; infinity for k = 0."""
    if k < 1:
        return float("inf")
    kept = [_bits(op, s) for s in blocks] if math.prod(op.shape) <= KEEP else None

    def bits() -> Iterator[Tensor]:
        return iter(kept) if kept is not None else (_bits(op, s) for s in blocks)

    high, above = _find(_counts(part >> HALF for part in bits()), k)
    mask = (1 << HALF) - 1
    low, _ = _find(_counts(part[(part >> HALF) == high] & mask for part in bits()), k - above)
    return _float((high << HALF) | low)


def _bits(op: Operator, s: slice) -> Tensor:
    """The magnitudes of a block as integers of the same order (n,)."""
    import torch

    return op.rows(s, torch.float32).abs().flatten().view(torch.int32)


def _counts(parts: Iterator[Tensor]) -> Tensor:
    """How often each of the 2¹⁶ values occurs."""
    import torch

    return torch.stack([torch.bincount(part, minlength=1 << HALF) for part in parts]).sum(0)


def _find(counts: Tensor, k: int) -> tuple[int, int]:
    """(the value of the k-th largest, how many are larger than that value)."""
    reached = counts.flip(0).cumsum(0)
    at = int((reached >= k).int().argmax())
    return len(counts) - 1 - at, int(reached[at] - counts.flip(0)[at])


def _float(bits: int) -> float:
    import torch

    return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))
