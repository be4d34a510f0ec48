"""What becomes of a delta when it is stored: cast once, and measured as it lies in the file."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptr import plugins
from adaptr.algebra.dense import Dense
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.errors import NonFinite, NotPossible
from adaptr.results.ranks import Fitted

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adaptr.adapter import Adapter

#: Relative errors below this are the rounding of fp32 and count as none.
EXACT = 1e-6


def cast(tensor: Tensor, dtype: torch.dtype | None, path: str) -> Tensor:
    """`tensor` as it is stored: in `dtype`, or as it is. Raises `NonFinite` where that dtype is too narrow for it."""
    made = tensor if dtype is None else tensor.to(dtype)
    if made.dtype is not tensor.dtype and not bool(made.isfinite().all()) and bool(tensor.isfinite().all()):
        raise NonFinite(
            f"`{path}` would overflow: its tensors reach {float(tensor.abs().max()):.3g}, more than "
            f"{str(dtype).removeprefix('torch.')} holds",
            hint="store it in a wider dtype",
        )
    return made


def lost(op: Operator, stored: Operator, size: float) -> float:
    """‖D' - D‖² for a delta D with ‖D‖² = `size` and what is stored of it. 0 for what is no more than the rounding of
    fp32.
    """
    if isinstance(stored, Dense):
        found = _of_dense(op, stored.dense())
    elif isinstance(stored, LowRank):
        found = _of_factors(op, stored.B * stored.scale if stored.scale != 1.0 else stored.B, stored.A, size)
    else:
        found = max(stored.inner(stored) - 2 * stored.inner(op) + size, 0.0)
    return found if found > EXACT**2 * size else 0.0


def _of_dense(op: Operator, D: Tensor) -> float:
    import torch

    gaps = (op.rows(s, torch.float64).sub(D[s].double()) for s in op.blocks())
    return sum(float(gap.square().sum()) for gap in gaps)


def _of_factors(op: Operator, B: Tensor, A: Tensor, size: float) -> float:
    import torch

    if isinstance(op, LowRank) and op.scale == 1.0 and _same(op.B, B) and _same(op.A, A):
        return 0.0
    axis = 2 if op.experts else 1
    after, other = B.flatten(axis).double(), A.flatten(axis).double()
    exact = _exact(op)
    if exact is None or exact[0].shape != after.shape:
        low = LowRank.of(after, other, op.shape, op.experts)
        return max(low.inner(low) - 2 * low.inner(op) + size, 0.0)
    # B' A' - B A = (B' - B) A + B' (A' - A), small in each term, so that nothing is lost to cancellation
    left, right = after - exact[0], other - exact[1]
    if not bool(left.any() or right.any()):
        return 0.0
    gap = LowRank.of(torch.cat([left, after], -1), torch.cat([exact[1], right], -2), op.shape, op.experts)
    return gap.inner(gap)


def _same(one: Tensor, two: Tensor) -> bool:
    import torch

    return one.dtype is two.dtype and torch.equal(one, two)


def _exact(op: Operator) -> tuple[Tensor, Tensor] | None:
    """B (*e, out, r), scales included, and A (*e, r, in*k) of an operator, fp64; None for what has no factors."""
    import torch

    try:
        terms = [term.low_rank() for term in getattr(op, "terms", (op,))]
    except NotPossible:
        return None
    pairs = [(term.scale, *term.factors(torch.float64)) for term in terms]
    return torch.cat([s * B for s, B, _ in pairs], -1), torch.cat([A for _, _, A in pairs], -2)


def measured(fitted: Fitted, op: Operator, adapter: Adapter, dtype: torch.dtype | None) -> Fitted:
    """`fitted` with what storing its operator in `adapter` cost, which is orthogonal to what truncating did."""
    square = fitted.norm**2
    stored = plugins.method(adapter.method).operator(adapter.targets[fitted.path], adapter.at(fitted.path))
    if not square or (dtype is None and isinstance(stored, Dense)):
        return fitted
    wrong = lost(op, stored, square)
    return replace(fitted, error=math.hypot(fitted.error, math.sqrt(wrong / square)))
