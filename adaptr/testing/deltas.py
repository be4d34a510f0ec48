"""Deltas that the laws of strategies are tried on: small, of all the kinds that formulas tend to forget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.algebra.dense import Dense
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator

if TYPE_CHECKING:
    import torch

SHAPES = ((6, 5), (4, 7), (5, 5))
#: How the second delta is made of the first, where it is.
KINDS = ("free", "free", "same", "zero", "deficient", "wide", "orthogonal")
HOSTILE = (*KINDS, "opposite", "signs", "tiny", "huge")


@dataclass(frozen=True)
class Case:
    """Deltas of one shape and their weights."""

    ops: tuple[Operator, ...]
    weights: tuple[float, ...]


def drawn(weights: tuple[float, ...], ranks: tuple[int, ...], shape: tuple[int, int], kind: str, seed: int) -> Case:
    """One of `kind`, a delta for each weight."""
    import torch

    g = torch.Generator().manual_seed(seed)
    ops = [_low(shape, r, g) for r, _ in zip(ranks, weights, strict=False)]
    first, second = ops[0], ops[1]
    if kind in {"same", "opposite"}:
        second = first * 1.0 if kind == "same" else -first
    elif kind == "zero":
        second = LowRank(torch.zeros_like(second.B), second.A)
    elif kind == "deficient":
        second = LowRank(torch.cat([second.B, second.B], 1), torch.cat([second.A, second.A], 0))
    elif kind == "wide":
        second = _low(shape, max(shape) + 2, g)
    elif kind == "orthogonal":
        first.A[:, :2], second.A[:, 2:] = 0.0, 0.0
    elif kind == "signs":
        ops = [_signs(shape, g) for _ in weights]
        first, second = ops[:2]
    elif kind in {"tiny", "huge"}:
        ops = [times(op, 1e-25 if kind == "tiny" else 1e25) for op in ops]
        first, second = ops[:2]
    return Case((first, second, *ops[2:]), weights)


def _low(shape: tuple[int, int], r: int, g: torch.Generator) -> LowRank:
    import torch

    return LowRank(torch.randn(shape[0], r, generator=g), torch.randn(r, shape[1], generator=g), 0.5)


def _signs(shape: tuple[int, int], g: torch.Generator) -> LowRank:
    """±1 everywhere: all magnitudes are alike, and sums cancel."""
    import torch

    sides = (torch.randint(0, 2, (n,), generator=g) * 2.0 - 1.0 for n in shape)
    return LowRank(next(sides)[:, None], next(sides)[None, :])


def times(op: Operator, by: float) -> LowRank:
    """`by` D, in the factors themselves."""
    low = op.low_rank()
    return LowRank(low.B * by, low.A, low.scale)


def dense(op: Operator) -> Operator:
    """Without factors."""
    import torch

    return Dense(op.dense(torch.float64))


def rescaled(op: Operator) -> Operator:
    """The same delta by other factors: B R and R⁻¹ A."""
    import torch

    low = op.low_rank()
    r = low.A.shape[0]
    R = torch.eye(r) + 0.5 * torch.diag(torch.ones(r - 1), 1)
    return LowRank(low.B @ R * 2.0, torch.linalg.solve_triangular(R, low.A, upper=True), low.scale / 2.0)


def stacked(op: Operator) -> LowRank:
    """Three experts of other ranks: the delta, its first direction, nothing."""
    import torch

    low = op.low_rank()
    one = low.B.clone()
    one[:, 1:] = 0.0
    B = torch.stack([low.B, one, torch.zeros_like(one)])
    made = LowRank(B, low.A.expand(3, *low.A.shape).contiguous(), low.scale)
    made.experts = True
    return made
