"""Two adapters without their base: changes in proportion to a weight, whatever it is, and tensors of one method.

What scales or turns a weight W does so to any: T(c W) = c T(W), and two of these that do the same to a weight drawn at
random do the same to all. Sizes are then shares of the weight's own, measured on that. Where a change is not in
proportion, or there is none, equal tensors still are an equal adapter, and other tensors can be named.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptr.adapter import Adapter, Target
from adaptr.contract import View
from adaptr.diffing.report import DiffReport, Field, Other
from adaptr.errors import NoDelta

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.models.weights import Weights

#: How near T(2 W) must be to 2 T(W), relative to its size.
CLOSE = 1e-5
#: What of a header says what is done to a weight, beside the tensors.
MEANS = ("method", "config", "targets", "parts")
NOTE = (
    "without a base: both change weights in proportion to what these are, so sizes are shares of each weight's own, "
    "measured on weights drawn at random; `--base BASE` measures on the base's"
)


def weights(seed: int, size: float = 1.0) -> Weights:
    """Weights of that Frobenius norm, of independent normal numbers, always the same for a seed and a path."""

    def drawn(target: Target) -> View:
        import torch

        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {target.path}".encode()))
        W = torch.randn(target.shape, generator=generator)
        W *= size / W.double().norm().clamp(min=1e-30).float()
        return View(_uncallable, lambda s: W[s])

    return drawn


def proportional(adapter: Adapter, seed: int) -> bool:
    """Whether all that an adapter does to weights is in proportion to them, and to nothing else."""
    from adaptr.changes.deltas import deltas

    once, twice = (deltas(adapter, weights=weights(seed, size)) for size in (1.0, 2.0))
    kinds = {once.sort(path): path for path in once}
    for path in kinds.values():
        one, two = (found[path].dense() for found in (once, twice))
        if float((two - 2 * one).norm()) > CLOSE * float(two.norm()):
            return False
    return True


def unbased(adapters: Sequence[Adapter], seed: int) -> Weights | None:
    """What stands for the weights of both where no base is given, None where nothing can or need."""
    from adaptr.changes.deltas import needs_base

    if not all(map(needs_base, adapters)):
        return None
    try:
        return weights(seed) if all(proportional(one, seed) for one in adapters) else None
    except NoDelta:
        return None


def held(one: Adapter, two: Adapter, fields: Sequence[Field], others: Sequence[Other], why: NoDelta) -> DiffReport:
    """What can be said of two adapters by what they hold. Raises `why` where that says nothing."""
    if one.method != two.method:
        raise why
    means = any(field.name.partition(".")[0] in MEANS for field in fields)
    same = None if others or means else True
    return DiffReport("", "", bool(same) and not fields, same, tuple(fields), others=tuple(others), notes=(str(why),))


def tensors(adapter: Adapter) -> dict[str, tuple[str, Tensor]]:
    return {key: ("tensor", tensor) for key, tensor in adapter.tensors.items()}


def _uncallable(*_: object) -> Tensor:
    raise AssertionError("a weight that is drawn has no forward")
