"""What a change is beside the weight it changes: its relative size, and intruder dimensions.

An intruder dimension is a leading singular vector of W + D that is near none of W's (Shuttleworth et al. 2024,
arXiv:2410.21228). Vectors are taken on the smaller side of the matrix and held against all of W's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptr.adapter import Adapter, Target
from adaptr.algebra.operator import Operator
from adaptr.checkpoint.open import Checkpoint
from adaptr.contract.view import ALL
from adaptr.diffing.report import TargetDiff
from adaptr.models.weights import of

if TYPE_CHECKING:
    from torch import Tensor

#: A cosine below this, to all of W's singular vectors, makes an intruder.
FAR = 0.6


def against_base(
    found: TargetDiff, ground: Checkpoint, target: Target, ops: Sequence[Operator | None], number: int
) -> TargetDiff:
    """`found` with what needs the weight. `number`: how many leading vectors are looked at, 0 for none."""
    W = of(ground, Adapter("full", {}, {target.path: target}, {}))(target).rows(ALL)
    size = float(W.double().norm())
    if size:
        found = replace(found, relative_a=found.norm_a / size, relative_b=found.norm_b / size)
    if not number or len(target.shape) != 2:
        return found
    U = _vectors(W)
    counts = [None if op is None else intruders(W, op, U, number) for op in ops]
    return replace(found, intruders_a=counts[0], intruders_b=counts[1])


def intruders(W: Tensor, op: Operator, U: Tensor, number: int) -> int:
    """How many of the `number` leading singular vectors of W + D are far from all those of W, the columns of U."""
    after = _vectors(op.add_rows(W.to(op.dtype), ALL))[:, -number:]
    nearest = (U.mT.to(after.dtype) @ after).abs().amax(0)
    return int((nearest < FAR).sum())


def _vectors(W: Tensor) -> Tensor:
    """The singular vectors of the smaller side, those of the largest values last, as columns."""
    import torch

    W = W.float() if W.dtype != torch.float64 else W
    found: Tensor = torch.linalg.eigh(W @ W.mT if W.shape[0] <= W.shape[1] else W.mT @ W).eigenvectors
    return found
