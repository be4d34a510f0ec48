"""Prove that a merged checkpoint is base + adapters: recompute every changed weight, compare every other byte."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from adaptr.bulk import workers
from adaptr.bulk.blocks import Weight, in_order
from adaptr.bulk.change import Change, Tied
from adaptr.changes.plan import plan
from adaptr.checkpoint.decoded import Decoded
from adaptr.checkpoint.open import Checkpoint, open_checkpoint
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.reading import Readers, every_row, reading
from adaptr.checkpoint.stored import Stored
from adaptr.checkpoint.stream import Rows
from adaptr.contract.view import ALL
from adaptr.errors import UsageError
from adaptr.files.meter import Meter, Progress
from adaptr.format.io import dtype_shape
from adaptr.merging import alone, recast, receipt
from adaptr.merging.filling import bias_of
from adaptr.merging.patch import integer
from adaptr.merging.shifting import shifted
from adaptr.models.aligned import under_names_of
from adaptr.models.belonging import Compared, require_base
from adaptr.packings import Encoded
from adaptr.report import Report
from adaptr.sources.given import Several, stacked
from adaptr.sources.resolve import Place, resolve

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: ‖found - expected‖ / ‖expected - base‖ of a tensor up to which another way of rounding explains the difference.
TOLERANCE = 0.05
#: In the place of adapters: those beside the receipt.
OWN: Several = {}
#: How far a single element may be off, in roundings of the numbers that it was made from.
ROUNDINGS = 4


@dataclass(frozen=True)
class Difference:
    """A tensor that is not what it should be.

    `error`: ‖found - expected‖ / ‖expected - base‖. `ulps`: the largest difference of an element, in steps of its
    dtype. `roundings`: the same in roundings of the larger of its old and new value and the size of the change.
    """

    tensor: str
    elements: int
    different: int
    ulps: int
    roundings: float
    error: float
    reason: str


@dataclass(frozen=True)
class VerifyReport(Report):
    """The verdict. `exact`: all bits are as recomputed. `ok`: exact, or within what rounding explains (`error`).
    `alone`: base and adapters are those that the receipt gives.
    """

    merged: str
    ok: bool
    exact: bool
    tensors: int
    recomputed: int
    elements: int
    different: int
    error: float
    differences: list[Difference]
    tied: str
    compared: list[Compared]
    alone: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify(
    merged: Place,
    base: Place | None = None,
    adapters: Several = OWN,
    *,
    tied: Tied = None,
    tolerance: float = TOLERANCE,
    any_base: bool = False,
    dtype: str | torch.dtype | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Prove that `merged` is `base` with `adapters` merged in: the merge is computed again and compared.

    A changed tensor passes if its error, relative to the change the adapters make, is at most `tolerance`, and no
    element is off by more than a few roundings; untouched and replaced tensors must be equal bit for bit. Missing and
    unexpected tensors fail; what the model reads as one is one, whatever `merged` calls it. `tied`, `dtype`: as the
    merge was told; if not given, as its receipt says. `any_base`: go on although an adapter says that it is of another
    base.

    Without adapters they are those beside the receipt; without a base it is what the receipt gives back, whose tensors
    are what their digests say: put where temporary files go, while it is compared.

    Raises `NotMerged` where a receipt is wanted and is not there or not exact, `DigestMismatch` where it does not give
    back the base, `WrongBase` and its kin for adapters that don't fit, `UsageError` for adapters without a base.
    """
    there = resolve(merged)
    if base is None:
        if adapters is not OWN:
            raise UsageError("adapters are given and no base", hint="give the base, or neither: the receipt has both")
        with alone.base(there, progress) as own:
            report = verify(there, own, tied=tied, tolerance=tolerance, any_base=True, dtype=dtype, progress=progress)
            return replace(report, merged=str(there), alone=True, compared=[])
    folder = resolve(base).path
    stack = alone.adapters(there.path) if adapters is OWN else stacked(adapters, folder)
    expected = open_checkpoint(folder)
    found = under_names_of(expected, open_checkpoint(there.path))
    paper = _told(found)
    kind = recast.asked(dtype) or (paper.dtype if paper else "")
    tied = tied or (paper.document.get("tied") if paper else None) or None
    todo = shifted(plan(expected, stack, tied))
    compared = require_base(expected, [adapter for adapter, _ in stack], any_base)
    meter = Meter(expected.nbytes, "verifying", progress)
    check = _Check(found, todo.changes, meter, paper is None or paper.portable, kind)
    names = sorted({*expected.tensors, *todo.changes})
    results = workers.run(lambda name: check.one(name, expected.tensors.get(name)), names)
    seen = [results[i] for i in range(len(names))]
    extra = [_absent(name, "is in no base and no adapter") for name in sorted(set(found.tensors) - set(names))]
    differences = [d for d in seen if d.different] + extra
    worst = max((d.error for d in differences), default=0.0)
    return VerifyReport(
        merged=str(there),
        ok=all(d.error <= tolerance and d.roundings <= ROUNDINGS for d in differences),
        exact=not differences,
        tensors=len(names),
        recomputed=len(todo.changes),
        elements=sum(d.elements for d in seen),
        different=sum(d.different for d in differences),
        error=worst,
        differences=sorted(differences, key=lambda d: (-d.error, d.tensor)),
        tied=tied or "",
        compared=compared,
    )


def _told(merged: Checkpoint) -> receipt.Receipt | None:
    """The merge's receipt, if it left one: what it was told of tied weights, and in which arithmetic it was done."""
    there = (receipt.place(merged.root) / receipt.FILE).is_file()
    return receipt.read(merged.root) if there else None


def _absent(name: str, reason: str) -> Difference:
    return Difference(name, 0, 1, 0, math.inf, math.inf, reason)


class _Check:
    def __init__(
        self, found: Checkpoint, changes: Mapping[str, Change], meter: Meter, portable: bool, dtype: str
    ) -> None:
        """`dtype`: in which floats were written, "" for the base's own."""
        self.found, self.changes, self.meter, self.portable, self.dtype = found, changes, meter, portable, dtype

    def one(self, name: str, base: Stored | None) -> Difference:
        found, change = self.found.tensors.get(name), self.changes.get(name)
        start = change.stored if change is not None else base
        wrong = _misfit(found, start, change, self.dtype)
        if found is None or wrong:
            return _absent(name, wrong)
        tally = _Tally()
        with reading(found) as mine:
            self._compare(tally, mine, start, change)
        self.meter.add(found.entry.nbytes)
        reason = "" if not tally.different else "differs from the base" if change is None else "differs from the merge"
        return Difference(name, found.entry.numel, tally.different, tally.ulps, tally.roundings, tally.error, reason)

    def _compare(self, tally: _Tally, found: Readers, start: Stored | None, change: Change | None) -> None:
        if change is not None and change.value is not None:
            rows = slice(0, change.value.shape[0] if change.value.ndim else 1)
            mine = found(rows)
            block = mine.read(ALL)
            value = change.value.reshape(block.shape)
            if start is not None and isinstance(start, Packed):
                with reading(start) as wanted:
                    value = _rounded(mine, wanted(rows), value, 0)
            tally.same(block, value.to(block.dtype))
            return
        assert start is not None
        spans = change.spans if change is not None and change.what != "bias" else ()
        with reading(start) as wanted:
            for rows, span in in_order(spans, every_row(start).stop):
                mine, theirs = found(rows), wanted(rows)
                if span is not None:
                    _compare_span(tally, mine, Weight(span, theirs, self.portable))
                elif change is not None and change.what == "bias":
                    old, now = theirs.read(ALL), mine.read(ALL)
                    tally.near(now, bias_of(change, old).to(now.dtype), old)
                else:
                    for s in theirs.blocks():
                        found_rows = mine.read(s)
                        tally.same(found_rows, theirs.read(s).to(found_rows.dtype))


def _misfit(found: Stored | None, start: Stored | None, change: Change | None, written: str) -> str:
    """Why a tensor can't be compared with what is expected, if so."""
    if found is None:
        return "is missing"
    value = change.value if change is not None else None
    want = tuple(value.shape) if value is not None else start.entry.shape if start is not None else ()
    if found.entry.shape != want:
        return f"has shape {found.entry.shape}, wanted {want}"
    dtype = start.entry.dtype if start is not None else dtype_shape(value)[0] if value is not None else ""
    if change is not None and change.packed is not None and not isinstance(found, Packed):
        dtype = change.packed.floats
    dtype = recast.written(dtype, written)
    return "" if found.entry.dtype == dtype else f"is {found.entry.dtype}, wanted {dtype}"


def _compare_span(tally: _Tally, mine: Rows, weight: Weight) -> None:
    for s in weight.blocks():
        found, old = mine.read(s), weight.rows.read(s)
        want = _rounded(mine, weight.rows, weight.merged(s), weight.rows.start + s.start)
        tally.near(found, want.to(found.dtype), old)


def _rounded(mine: Rows, base: Rows, found: Tensor, row: int) -> Tensor:
    """Rows from `row` on of what is merged; of one that was packed again, as its base's codec has them."""
    if not isinstance(mine, Decoded) or not isinstance(base, Decoded) or not isinstance(base.codec, Encoded):
        return found
    codec = base.codec.written
    return codec.values(codec.nearest(found.float(), base.parts, row), base.parts, row)


class _Tally:
    """Differences of one tensor, summed over blocks."""

    def __init__(self) -> None:
        self.different = self.ulps = 0
        self.roundings = self.wrong = self.change = 0.0
        self.exactly = 0

    @property
    def error(self) -> float:
        if self.exactly:  # where nothing may differ, nothing small explains it
            return math.inf
        return math.sqrt(self.wrong / self.change) if self.change else math.inf if self.different else 0.0

    def same(self, found: Tensor, want: Tensor) -> None:
        """A block that must be equal bit for bit."""
        import torch

        if not torch.equal(bits(found), bits(want)):
            count = int((bits(found) != bits(want)).sum())
            self.exactly += count
            self.different += count

    def near(self, found: Tensor, want: Tensor, old: Tensor) -> None:
        """A block that was computed, from `old`, and perhaps rounded differently."""
        import torch

        change = want.double() - old.double()
        self.change += float(change.square().sum())
        if torch.equal(bits(found), bits(want)):
            return
        unequal = bits(found) != bits(want)
        self.different += int(unequal.sum())
        off = found[unequal].double() - want[unequal].double()
        self.wrong += float(off.square().sum())
        size = torch.maximum(want[unequal].double().abs(), old[unequal].double().abs()) + change.square().mean().sqrt()
        worst = (off.abs() / (size * torch.finfo(want.dtype).eps)).nan_to_num(math.inf).max()
        self.roundings = max(self.roundings, float(worst))
        steps = (_ordered(found[unequal]) - _ordered(want[unequal])).abs()
        self.ulps = max(self.ulps, int(steps.max()))


def bits(values: Tensor) -> Tensor:
    """A tensor's bits as integers of its width: NaN equals itself, and the zeros differ."""
    return values.contiguous().view(integer(values.element_size()))


def _ordered(values: Tensor) -> Tensor:
    """Floats as integers in the same order, so that neighbours differ by one."""
    import torch

    found = bits(values).to(torch.int64)
    low = -(1 << (8 * values.element_size() - 1))
    return torch.where(found < 0, low - found, found)
