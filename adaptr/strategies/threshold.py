"""The k-th largest magnitude of an operator's elements, exact, in one pass and little memory: nothing is sorted whole.

A sample says between which two values it must lie. The pass counts what is above them and keeps what is between; where
the sample was wrong, it is made wider and the pass repeated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adaptr.algebra.operator import Operator

if TYPE_CHECKING:
    import numpy as np

#: How many blocks are sampled, and about how many values in all.
BLOCKS, VALUES = 16, 1 << 15
#: How far, in shares of all elements, the sample may be wrong on either side before a second pass is needed.
MARGIN = 0.02


def kth_largest(op: Operator, k: int, blocks: list[slice]) -> float:
    """The magnitude that `k` elements of D, in fp32 or better, reach or exceed; infinity for k = 0."""
    if k < 1:
        return float("inf")
    sample, share, margin = _sample(op, blocks), k / math.prod(op.shape), MARGIN
    while True:
        low, high = _value(sample, share + margin), _value(sample, share - margin)
        above, between = _split((_sizes(op, s) for s in blocks), low, high)
        if above < k <= above + len(between):
            return float(between[0]) if low == high else _kth(between, k - above)
        margin *= 4


def _sizes(op: Operator, s: slice) -> np.ndarray[Any, Any]:
    """The magnitudes of a block (n,), in fp32 or better."""
    found: np.ndarray[Any, Any] = op.rows(s, op.dtype).abs().flatten().cpu().numpy()
    return found


def _sample(op: Operator, blocks: list[slice]) -> np.ndarray[Any, Any]:
    """Magnitudes from evenly spaced blocks, falling."""
    import numpy as np

    chosen = blocks[:: max(1, len(blocks) // BLOCKS)]
    parts = [_sizes(op, s) for s in chosen]
    step = max(1, sum(map(len, parts)) // VALUES)
    # an odd step does not meet the same columns in every row
    return np.sort(np.concatenate([part[:: step | 1] for part in parts]))[::-1]


def _value(sample: np.ndarray[Any, Any], share: float) -> float:
    """The value that a share of the sample is above; 0 and infinity beyond its ends."""
    at = round(share * len(sample))
    return float("inf") if at < 0 or share < 0 else float(sample[at]) if at < len(sample) else 0.0


def _split(parts: Iterator[np.ndarray[Any, Any]], low: float, high: float) -> tuple[int, Any]:
    """(how many values are above `high`, those from `low` to `high`), which are not kept where they are all alike."""
    import numpy as np

    above, between, kept = 0, 0, []
    for part in parts:
        larger = part > high
        inside = (part >= low) & ~larger
        above += int(np.count_nonzero(larger))
        between += int(np.count_nonzero(inside))
        if low < high:
            kept.append(part[inside])
    return above, np.concatenate(kept) if kept else np.broadcast_to(np.float64(low), (between,))


def _kth(values: np.ndarray[Any, Any], k: int) -> float:
    import numpy as np

    at = len(values) - k
    return float(np.partition(values, at)[at])
