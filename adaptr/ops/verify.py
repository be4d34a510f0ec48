"""Prove that a merged checkpoint is base + adapters: recompute every changed weight, compare every other byte."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Adapter
from adaptr.checkpoint.open import Checkpoint, Stored, open_checkpoint
from adaptr.checkpoint.stream import Rows
from adaptr.ops import workers
from adaptr.ops.blocks import Weight, in_order, merged_bias
from adaptr.ops.stack import Change, Tied, plan

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int, str], None]
#: ‖found - expected‖ / ‖expected - base‖ of a tensor up to which another machine's rounding explains the difference.
TOLERANCE = 0.05


@dataclass(frozen=True)
class Difference:
    """A tensor that is not what it should be. `error`: ‖found - expected‖ / ‖expected - base‖; `ulps`: the largest
    step.
    """

    tensor: str
    elements: int
    different: int
    ulps: int
    error: float
    reason: str


@dataclass(frozen=True)
class VerifyReport:
    """The verdict. `exact`: all bits are as recomputed. `ok`: exact, or within what rounding explains (`error`)."""

    merged: str
    ok: bool
    exact: bool
    tensors: int
    recomputed: int
    elements: int
    different: int
    error: float
    differences: list[Difference]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify(
    merged: str | Path,
    base: str | Path,
    adapters: Sequence[tuple[Adapter, float]],
    *,
    tied: Tied = None,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
) -> VerifyReport:
    """Compare `merged` with what merging `adapters` into `base` gives.

    A tensor passes if its error, relative to the change the adapters make, is at most `tolerance`; untouched tensors
    must be equal bit for bit. Missing and unexpected tensors fail.
    """
    found, expected = open_checkpoint(merged), open_checkpoint(base)
    todo = plan(expected, adapters, tied)
    check = _Check(found, todo.changes, expected.nbytes, progress)
    names = sorted({*expected.tensors, *todo.changes})
    results = workers.run(lambda name: check.one(name, expected.tensors.get(name)), names)
    seen = [results[i] for i in range(len(names))]
    extra = [_absent(name, "is in no base and no adapter") for name in sorted(set(found.tensors) - set(names))]
    differences = [d for d in seen if d.different] + extra
    worst = max((d.error for d in differences), default=0.0)
    return VerifyReport(
        merged=str(merged),
        ok=not extra and all(d.error <= tolerance for d in differences),
        exact=not differences,
        tensors=len(names),
        recomputed=len(todo.changes),
        elements=sum(d.elements for d in seen),
        different=sum(d.different for d in differences),
        error=worst,
        differences=sorted(differences, key=lambda d: (-d.error, d.tensor)),
    )


def _absent(name: str, reason: str) -> Difference:
    return Difference(name, 0, 1, 0, math.inf, reason)


class _Check:
    def __init__(self, found: Checkpoint, changes: Any, total: int, progress: Progress | None) -> None:
        self.found, self.changes = found, changes
        self._lock, self._progress, self._done, self._all = threading.Lock(), progress, 0, total

    def one(self, name: str, base: Stored | None) -> Difference:
        found, change = self.found.tensors.get(name), self.changes.get(name)
        if found is None:
            return _absent(name, "is missing")
        start = change.stored if change is not None else base
        want = _value_shape(change) or (start.entry.shape if start else ())
        if found.entry.shape != want:
            return _absent(name, f"has shape {found.entry.shape}, wanted {want}")
        if start is not None and found.entry.dtype != start.entry.dtype:
            return _absent(name, f"is {found.entry.dtype}, the base is {start.entry.dtype}")
        tally = _Tally()
        with open(found.shard.path, "rb") as file:
            self._compare(tally, file.fileno(), found, start, change)
        self._tell(found.entry.nbytes)
        reason = "" if not tally.different else "differs from the base" if change is None else "differs from the merge"
        error = math.sqrt(tally.wrong / tally.change) if tally.change else (math.inf if tally.different else 0.0)
        return Difference(name, found.entry.numel, tally.different, tally.ulps, error, reason)

    def _compare(self, tally: _Tally, file: int, found: Stored, start: Stored | None, change: Change | None) -> None:
        if change is not None and change.value is not None:
            value = change.value
            whole = Rows(found, file, slice(0, value.shape[0] if value.ndim else 1))
            block = whole.read(slice(None))
            tally.add(block, value.to(whole.dtype).reshape(block.shape), None)
            return
        assert start is not None
        spans = change.spans if change is not None and change.what != "bias" else ()
        with open(start.shard.path, "rb") as other:
            count = start.entry.shape[0] if start.entry.shape else 1
            for rows, span in in_order(spans, count):
                mine, theirs = Rows(found, file, rows), Rows(start, other.fileno(), rows)
                weight = Weight(span, theirs) if span is not None else None
                view = weight.merged() if weight is not None else None
                for s in weight.blocks() if weight else theirs.blocks():
                    want = old = theirs.read(s)
                    if weight is not None and view is not None:
                        want = weight.take(view, s).to(theirs.dtype)
                    elif change is not None and change.what == "bias":
                        want = merged_bias(change.spans[0].layers, old.float()).to(theirs.dtype)
                    tally.add(mine.read(s), want, old)

    def _tell(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._progress is not None:
                self._progress(min(self._done, self._all), self._all, "verifying")


def _value_shape(change: Change | None) -> tuple[int, ...] | None:
    return tuple(change.value.shape) if change is not None and change.value is not None else None


class _Tally:
    """Differences of one tensor, summed over blocks."""

    def __init__(self) -> None:
        self.different = self.ulps = 0
        self.wrong = self.change = 0.0

    def add(self, found: Tensor, want: Tensor, old: Tensor | None) -> None:
        import torch

        if old is not None and old is not want and want.is_floating_point():
            self.change += float((want.double() - old.double()).square().sum())
        if torch.equal(found, want):
            return
        unequal = found != want
        self.different += int(unequal.sum())
        if found.is_floating_point():
            self.wrong += float((found.double() - want.double()).square().sum())
            steps = (_ordered(found[unequal]) - _ordered(want[unequal])).abs()
            self.ulps = max(self.ulps, int(steps.max()) if steps.numel() else 0)


def _ordered(values: Tensor) -> Tensor:
    """Floats as integers in the same order, so that neighbours differ by one."""
    import torch

    size = values.element_size()
    bits = (
        values.contiguous().view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size]).to(torch.int64)
    )
    low = -(1 << (8 * size - 1))
    return torch.where(bits < 0, low - bits, bits)
