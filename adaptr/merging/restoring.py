"""The tensors that a merge changed, made again what they were: by their adapters' inverse and what that gets wrong."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from adaptr.adapter import Adapter
from adaptr.adapter.weighting import Weight as Strength
from adaptr.bulk import workers
from adaptr.bulk.blocks import Inverse, Kept, Weight, in_order
from adaptr.bulk.change import Change, Plan
from adaptr.changes.plan import plan
from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.reading import every_row, reading
from adaptr.checkpoint.relaid import of_header, relaid
from adaptr.checkpoint.rewrite import Layout, Slot
from adaptr.checkpoint.side_files import CONFIG
from adaptr.checkpoint.stored import Shard
from adaptr.checkpoint.stream import CHUNK, write_all
from adaptr.errors import DigestMismatch, shown
from adaptr.files.meter import Meter
from adaptr.format import header as headers
from adaptr.format.header import Entry
from adaptr.format.io import raw_bytes, torch_dtype
from adaptr.merging import recast, repacking
from adaptr.merging.damage import damaged
from adaptr.merging.receipt import Receipt, most_kept
from adaptr.merging.receipt_check import FILE_BLOB
from adaptr.merging.remainder import Completion
from adaptr.merging.shifting import codec_of, shifted
from adaptr.untrusted import MAX_DOCUMENT

#: How many bytes zlib makes of one at most.
DEFLATE = 1040


def _base_of(checkpoint: Checkpoint, paper: Receipt) -> Checkpoint:
    """The merged checkpoint as merging saw its base: the same tensors and the same configuration."""
    tensors = {n: stored for n, stored in checkpoint.tensors.items() if n not in paper.added or n in paper.packed}
    return replace(checkpoint, tensors=tensors, config=_config_of(checkpoint, paper))


def _config_of(checkpoint: Checkpoint, paper: Receipt) -> Mapping[str, Any]:
    raw = paper.blob(f"{FILE_BLOB}{CONFIG}", MAX_DOCUMENT)
    return headers.load_json(raw) if raw else checkpoint.config


def layouts(checkpoint: Checkpoint, paper: Receipt) -> list[tuple[Shard, Layout]]:
    """Each shard with the header that the base had. Raises `DigestMismatch` for one that the merged can't come from."""
    notes = paper.document["tensors"]
    found = []
    for shard in checkpoint.shards:
        raw = paper.blob(f"header:{shard.name}", 8 + headers.MAX_HEADER) or shard.raw
        layout = _layout(checkpoint, shard, raw)
        for name, entry in layout.entries.items():
            if not _possible(name, entry, notes.get(name, {}), checkpoint, paper):
                raise damaged(f"the receipt says of `{shown(name)}` what the merged checkpoint can't come from")
        found.append((shard, layout))
    return found


def _layout(checkpoint: Checkpoint, shard: Shard, raw: bytes) -> Layout:
    """What the bytes of a header say."""
    if checkpoint.in_gguf:
        now = relaid(shard, checkpoint.config, {})
        return now if raw == shard.raw else of_header(raw, checkpoint.config, now.behind)
    return Layout(raw, headers.prefixed(headers.parse(raw[8:], len(raw)), shard.prefix).entries)


def _possible(name: str, entry: Entry, note: Mapping[str, Any], checkpoint: Checkpoint, paper: Receipt) -> bool:
    """Whether a tensor of the base can be had: from the receipt's copy, or as what it is in the merged checkpoint."""
    if note.get("old"):
        packed = paper.header.entries.get(f"{name}:old")
        return packed is not None and entry.nbytes <= packed.nbytes * DEFLATE
    if note.get("codes") and not checkpoint.in_gguf:  # of a weight that is there, a byte for each element at most
        whole = checkpoint.tensors.get(note.get("of", ""))
        return whole is not None and entry.nbytes <= whole.entry.numel
    stored = checkpoint.lying.get(name)
    merged = stored.entry if stored is not None else None
    if merged is not None and paper.recast(note):
        return entry.shape == merged.shape and recast.WIDER.get(entry.dtype) == merged.dtype
    return merged is not None and (entry.dtype, entry.shape) == (merged.dtype, merged.shape)


class Job:
    """The tensors to restore."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        paper: Receipt,
        made: Sequence[tuple[Shard, Layout]],
        stack: list[tuple[Adapter, Strength]],
        meter: Meter,
    ) -> None:
        self.paper, self.meter = paper, meter
        notes: Mapping[str, Any] = paper.document["tensors"]
        self.todo = {name: note for name, note in notes.items() if not note.get("added")}
        replaced = {name for name, note in self.todo.items() if note.get("old")}
        tied = paper.document.get("tied") or None
        self.plan: Plan = shifted(plan(_base_of(checkpoint, paper), stack, tied, replaced=replaced))
        self._bases = repacking.Bases(checkpoint, paper, made)
        self._packings = self._bases.weights(_config_of(checkpoint, paper)) if paper.packed else {}
        self.plan = recast.everywhere(self.plan, checkpoint, paper.dtype, self._only_recast())
        told = {name for name, note in self.todo.items() if "of" not in note} | paper.packed.keys()
        strange = told ^ {name for name in self.plan.changes if name not in paper.added or name in paper.packed}
        if strange:
            raise damaged(
                f"the receipt of `{checkpoint.root.name}` and its adapters disagree on whether `{min(strange)}` changed"
            )

    def _only_recast(self) -> set[str]:
        """Tensors that no adapter changed, and that the merge has written in another dtype."""
        mine = {name for name, note in self.todo.items() if self.paper.recast(note) and not note.get("old")}
        return mine - self.plan.changes.keys()

    def fill(self, slots: list[Slot]) -> None:
        workers.run(self._one, workers.spread(slots))

    def _one(self, slot: Slot) -> None:
        note = self.todo[slot.name]
        if note.get("old"):
            self._old(slot)
            return
        try:
            if note.get("codes"):
                self._codes(slot, note)
            else:
                self._weight(slot, self.plan.changes[slot.name], note)
        except (RuntimeError, ValueError, LookupError, TypeError) as error:  # of shapes that don't fit
            raise damaged(f"what the receipt keeps for `{slot.name}` does not fit it: {error}") from error

    def _old(self, slot: Slot) -> None:
        """A tensor whose old bytes are in the receipt."""
        done = 0
        try:
            for piece in _unpacked(self.paper.pieces(f"{slot.name}:old")):
                done += len(piece)
                if done > slot.entry.nbytes:
                    break
                self.meter.add(write_all(slot.target, slot.offset + done - len(piece), piece))
        except zlib.error as error:
            raise damaged(f"the receipt's copy of `{slot.name}` is damaged: {error}") from None
        if done != slot.entry.nbytes:
            raise DigestMismatch(
                f"the receipt holds {done} bytes or more for `{slot.name}`", want=f"{slot.entry.nbytes}"
            )

    def _weight(self, slot: Slot, change: Change, note: Mapping[str, Any]) -> None:
        if change.stored is None or change.what != "weight":
            raise ValueError("it was replaced as a whole, and there is no copy of it")
        with reading(change.stored) as stored:
            entry, count = change.stored.entry, every_row(change.stored).stop
            dtype, merged = torch_dtype(slot.entry.dtype), stored(slice(0, 0)).dtype
            rest = Completion(self.paper, slot.name, dtype, merged, math.prod(entry.shape))
            for rows, span in in_order(change.spans, count):
                part = stored(rows)
                weight = Weight(span, part, self.paper.portable) if span is not None else None
                inverse = None
                if weight is not None and weight.invertible:
                    inverse = Inverse(weight, self._kept(slot.name, note, rows.start, most_kept(entry.shape)))
                for s in weight.blocks() if weight else part.blocks():
                    block = part.read(s)
                    if weight is not None:
                        block = rest.below(block, inverse, s, part.flat(s))
                    at = slot.offset + (rows.start + s.start) * (slot.entry.nbytes // max(count, 1))
                    self.meter.add(write_all(slot.target, at, raw_bytes(block.to(dtype))))

    def _codes(self, slot: Slot, note: Mapping[str, Any]) -> None:
        """The codes of a weight that lay packed."""
        name = note["of"]
        base, change = self._packings.get(name), self.plan.changes[name]
        if base is not None and change.packed is not None:
            base = replace(base, codec=codec_of(base.codec, change))
        if base is None or base.parts.get(base.codec.main) != slot.name:
            raise damaged(f"the receipt has codes for `{slot.name}`, which is no packed weight of the base")
        kept = partial(self._kept, slot.name, note)
        parts = self._bases.parts(base)
        self.meter.add(repacking.restore(slot, base, parts, change, self.paper, kept))

    def _kept(self, name: str, note: Mapping[str, Any], row: int, most: int) -> Kept:
        import torch

        kept: Kept = {}
        for key, shape in note.get("kept", {}).items():
            start, number, param = key.removeprefix(f"{name}:").split(".", 2)
            if int(start) == row:
                values = torch.frombuffer(bytearray(self.paper.blob(key, most)), dtype=torch.float32)
                kept.setdefault(int(number), {})[param] = values.reshape(shape)
        return kept


def _unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What zlib packed, a piece at a time. Raises `zlib.error`."""
    coder = zlib.decompressobj()
    for packed in pieces:
        while not coder.eof and (piece := coder.decompress(packed, CHUNK)):
            yield piece
            packed = coder.unconsumed_tail
        if coder.eof:
            return
