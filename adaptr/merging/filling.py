"""The changed tensors of a merge: computed in fp32 over the whole stack, rounded once, written into their slots.

The receipt is made in the same pass: while a block is in the cache, its algebraic inverse is computed too, and what
that gets wrong is noted.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from typing import TYPE_CHECKING, Any

from adaptr.bulk import workers
from adaptr.bulk.blocks import Inverse, Kept, Weight, in_order, merged_bias
from adaptr.bulk.change import Change, Plan
from adaptr.checkpoint.reading import every_row, reading, whole
from adaptr.checkpoint.rewrite import Slot
from adaptr.checkpoint.stream import Rows, copy_range, write_all
from adaptr.files.meter import Meter
from adaptr.format.io import raw_bytes, torch_dtype
from adaptr.merging import receipt
from adaptr.merging.fate import Fate
from adaptr.merging.measured import SAMPLE, Measured, require_finite, require_room
from adaptr.merging.packed import Filled, Packing, stays
from adaptr.merging.remainder import Remainder, plus

if TYPE_CHECKING:
    import torch
    from torch import Tensor


Note = dict[str, Any]


class Filling:
    """Fills the slots of changed tensors. `notes`: what the receipt says of each; `total`: what was measured.

    `blobs`: where the patches go, or None for a receipt without them.
    """

    def __init__(self, todo: Plan, blobs: receipt.Spool | None, meter: Meter, again: bool = False) -> None:
        """`again`: weights that lay packed are packed again."""
        self.todo, self.blobs, self.meter, self.again = todo, blobs, meter, again
        self.notes: dict[str, Note] = {}
        self.total = Measured()
        self.fates: dict[str, Fate] = {}
        self._lock = threading.Lock()
        self._packing = Packing(self._put if blobs is not None else None, meter)
        self._owners = {slot_of(change, again): change for change in todo.changes.values()}

    def fill(self, slots: list[Slot]) -> None:
        order = workers.spread(slots)
        found = workers.run(self._one, order)
        for index in sorted(found, key=lambda i: order[i].name):
            self.total.add(found[index].measured)
            self.notes |= found[index].notes
            if (fate := found[index].fate) is not None:
                self.fates[self._owners[order[index].name].name] = fate

    def _one(self, slot: Slot) -> Filled:
        change = self._owners[slot.name]
        again = stays(change, self.again)
        if again or (change.packed is not None and change.what == "weight"):
            return self._packing.fill({slot.name: slot}, change, again)
        ways = {"weight": self._weight, "bias": self._bias, "replaced": self._replaced, "copy": self._copy}
        note, measured = ways[change.what](slot, change)
        if change.packed is not None:
            return Filled(self._packing.keep_whole(change.packed), measured)
        return Filled({slot.name: note}, measured)

    def _weight(self, slot: Slot, change: Change) -> tuple[Note, Measured]:

        assert change.stored is not None
        note, measured, sha, into = _note(change), Measured(), hashlib.sha256(), torch_dtype(slot.entry.dtype)
        left = Remainder(torch_dtype(change.stored.entry.dtype), into) if self._restores(change) else None
        each = slot.entry.nbytes // max(every_row(change.stored).stop, 1)
        with reading(change.stored) as stored:
            for rows, span in in_order(change.spans, every_row(change.stored).stop):
                part = stored(rows)
                at = slot.offset + rows.start * each
                if span is None:
                    self._pass_over(part, slot, at, sha, measured)
                    continue
                merging = _Span(slot.name, Weight(span, part), measured, left, into)
                for s in merging.weight.blocks():
                    old = part.read(s)
                    sha.update(raw_bytes(old))
                    write_all(slot.target, at + s.start * each, raw_bytes(merging.merge(old, s)))
                    self.meter.add(old.numel() * old.element_size())
                self._put_kept(slot.name, rows.start, merging.kept, note)
        for what, blob in left.encode().items() if left else ():
            self._put(f"{slot.name}:{what}", blob)
        return {**note, "digest": "sha256:" + sha.hexdigest()}, measured

    def _restores(self, change: Change) -> bool:
        """Whether the receipt is to give back what the tensor was."""
        return self.blobs is not None and not change.added

    def _pass_over(self, part: Rows, slot: Slot, at: int, sha: hashlib._Hash, measured: Measured) -> None:
        """Rows of a changed tensor that stay, but for their dtype."""
        into = torch_dtype(slot.entry.dtype)
        for number, s in enumerate(part.blocks()):
            old = part.read(s)
            new = old.to(into)
            sha.update(raw_bytes(old))
            if into != part.dtype:
                require_room(slot.name, new, old)
                if number % SAMPLE == 0:
                    measured.round(old, new)
            at += write_all(slot.target, at, raw_bytes(new))
            self.meter.add(old.numel() * old.element_size())

    def _bias(self, slot: Slot, change: Change) -> tuple[Note, Measured]:
        assert change.stored is not None
        with reading(change.stored) as stored:
            old = stored(change.spans[0].rows).read(slice(None))
        value = bias_of(change, old)
        new = value.to(torch_dtype(slot.entry.dtype)).contiguous()
        measured, before = Measured(), old.to(new.dtype)
        require_finite(slot.name, new, value)
        measured.look(before, new)
        measured.sample(before, new, value - old.to(value.dtype))
        if new.dtype != old.dtype:
            measured.round(value, new)
        self.meter.add(write_all(slot.target, slot.offset, raw_bytes(new)))
        return {"added": True} if change.added else self._keep_old(slot.name, change, raw_bytes(old)), measured

    def _replaced(self, slot: Slot, change: Change) -> tuple[Note, Measured]:

        assert change.value is not None
        new = change.value.to(torch_dtype(slot.entry.dtype)).contiguous()
        require_finite(slot.name, new, change.value)
        self.meter.add(write_all(slot.target, slot.offset, raw_bytes(new)))
        if change.stored is None or change.added or change.packed is not None:
            return {"added": True}, Measured(moved=True)
        old = whole(change.stored)
        moved = raw_bytes(old.to(new.dtype)) != raw_bytes(new)
        return self._keep_old(slot.name, change, raw_bytes(old)), Measured(moved=moved)

    def _copy(self, slot: Slot, change: Change) -> tuple[Note, Measured]:
        assert change.stored is not None
        if slot.entry.dtype != change.stored.entry.dtype:
            measured = Measured()
            with reading(change.stored) as stored:
                self._pass_over(stored(every_row(change.stored)), slot, slot.offset, hashlib.sha256(), measured)
            return {"added": True}, measured
        with open(change.stored.shard.path, "rb") as file:
            copy_range(file.fileno(), change.stored.offset, slot.target, slot.offset, slot.entry.nbytes)
        self.meter.add(slot.entry.nbytes)
        return {"added": True}, Measured()

    def _keep_old(self, name: str, change: Change, old: bytes | memoryview) -> Note:
        """Biases and replaced parameters: the receipt holds the old bytes."""
        self._put(f"{name}:old", zlib.compress(old, 6))
        return {**_note(change), "digest": "sha256:" + hashlib.sha256(old).hexdigest(), "old": True}

    def _put_kept(self, name: str, row: int, kept: Kept, note: Note) -> None:
        for blob, tensor in receipt.kept_blobs(name, row, kept):
            note.setdefault("kept", {})[blob] = list(tensor.shape)
            self._put(blob, raw_bytes(tensor))

    def _put(self, key: str, blob: bytes | memoryview) -> None:
        if self.blobs is not None and blob:
            with self._lock:
                self.blobs.put(key, blob)


class _Span:
    """The rows of a tensor that one stack of layers changes, block by block."""

    def __init__(
        self, name: str, weight: Weight, measured: Measured, left: Remainder | None, into: torch.dtype
    ) -> None:
        """`into`: the dtype that is written."""
        self.name, self.weight, self.measured, self.left, self.into = name, weight, measured, left, into
        self.kept = Kept()
        self.inverse: Inverse | None = None
        if left is not None and weight.invertible:
            weight.keep_whole(self.kept)
            self.inverse = Inverse(weight, self.kept)
        self._number = 0

    def merge(self, old: Tensor, s: slice) -> Tensor:
        """A block of the merged weight, as stored; notes what its inverse does not tell."""
        new = self._summed(old, s)
        if new is None:
            value = self.weight.merged(s)
            new = self._stepwise(old, value, s)
        before = old.to(self.into)
        self.measured.look(before, new)
        if self._number % SAMPLE == 0:
            change = self.weight.added(s) if self.weight.additive else value - old.to(value.dtype)
            self.measured.sample(before, new, change)
            if self.into != old.dtype:
                self.measured.round(value, new)
        self._number += 1
        return new

    def _summed(self, old: Tensor, s: slice) -> Tensor | None:
        """A block of a weight that something is added to, all in one pass where there is such a way."""
        if not self.weight.additive or self.into != old.dtype:
            return None
        if self.left is None:
            return plus(old, self.weight.added(s))
        return self.left.sum(old, self.weight.added(s), self.weight.rows.flat(s)) if self.inverse else None

    def _stepwise(self, old: Tensor, value: Tensor, s: slice) -> Tensor:
        """The same from a block of the merged weight, before it is rounded."""
        new = value.to(self.into).contiguous()
        require_finite(self.name, new, value)
        if self.left is not None:
            if self.inverse and self.weight.keeps:
                self.weight.keep(s, self.kept)
            self.left.add(old, new, self.inverse, s, self.weight.rows.flat(s))
        return new


def slot_of(change: Change, again: bool) -> str:
    """The stored tensor that a change writes. `again`: weights that lay packed are packed again."""
    return change.packed.main.name if change.packed is not None and stays(change, again) else change.name


def _note(change: Change) -> Note:
    assert change.stored is not None
    note: Note = {"dtype": change.stored.entry.dtype, "shape": list(change.stored.entry.shape)}
    return {**note, "added": True} if change.added else note


def bias_of(change: Change, old: Tensor) -> Tensor:
    """What becomes of a bias, before it is rounded; the weight that it may depend on is read as it was."""
    layers = change.spans[0].layers
    if change.below is None:
        return merged_bias(layers, old)
    stored, rows = change.below
    with reading(stored) as weight:
        return merged_bias(layers, old, weight(rows))
