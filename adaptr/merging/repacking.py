"""The codes of weights that lay packed, as they were before a merge: from the output, its adapters and the receipt."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adaptr.bulk.blocks import Inverse, Kept, Weight, in_order
from adaptr.bulk.change import Change
from adaptr.checkpoint.decoded import Blank, Decoded, Held
from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.packed import Packed, described, packing_of
from adaptr.checkpoint.reading import every_row, reading
from adaptr.checkpoint.rewrite import Layout, Slot
from adaptr.checkpoint.stored import Shard
from adaptr.format import header as headers
from adaptr.merging.damage import damaged
from adaptr.merging.packed import bytewise, computed
from adaptr.merging.patch import Patch, longest
from adaptr.merging.receipt import Receipt, most_kept
from adaptr.merging.written import PartSink
from adaptr.packings import Encoded, Parts
from adaptr.packings import Weight as Packing

#: What the receipt keeps for the inverse, of the rows from one on; and how many bytes of it there can be.
KeptAt = Callable[[int, int], Kept]


class Bases:
    """The weights of the base that lay packed, by what the receipt has of it."""

    def __init__(self, checkpoint: Checkpoint, paper: Receipt, made: Sequence[tuple[Shard, Layout]]) -> None:
        self.checkpoint, self.paper = checkpoint, paper
        self.entries = {name: entry for _, layout in made for name, entry in layout.entries.items()}
        self._made = made

    def weights(self, config: Mapping[str, Any]) -> dict[str, Packing]:
        """By name, as the base's configuration and headers have them."""
        if self.checkpoint.in_gguf:  # where tensors of one type lie alike
            return {name: _as_it_lies(one) for name, one in self.checkpoint.tensors.items() if isinstance(one, Packed)}
        packing = packing_of(config, self.checkpoint.root)
        if packing is None:
            raise damaged("the receipt says that weights lay packed, and the base's configuration that none did")
        metadata = [headers.parse(layout.raw[8:], layout.data).metadata for _, layout in self._made]
        return {one.name: one for one in described(packing, config, self.entries, metadata, self._read)}

    def parts(self, weight: Packing) -> Parts:
        """The parts of a weight as they were, but for its codes."""
        names = {role: name for role, name in weight.parts.items() if role != weight.codec.main}
        return {role: Held(self.entries[name], bytearray(self._read(name))) for role, name in names.items()}

    def _read(self, name: str) -> bytes:
        entry = self.entries[name]
        kept = self.paper.header.entries.get(f"{name}:old")
        if kept is None:
            there = self.checkpoint.lying.get(name)
            if there is None or there.entry[:2] != entry[:2]:
                raise damaged(f"the receipt lacks `{name}`, a part of a packed weight")
            with open(there.shard.path, "rb") as file:
                file.seek(there.offset)
                return file.read(entry.nbytes)
        blob = self.paper.blob(f"{name}:old", 2 * entry.nbytes + 1024)
        try:
            found = zlib.decompressobj().decompress(blob, entry.nbytes)
        except zlib.error as error:
            raise damaged(f"the receipt's copy of `{name}` is damaged: {error}") from None
        if len(found) != entry.nbytes:
            raise damaged(f"the receipt's copy of `{name}` has {len(found)} bytes, not {entry.nbytes}")
        return found


def _as_it_lies(stored: Packed) -> Packing:
    return Packing(stored.name, {role: part.name for role, part in stored.parts.items()}, stored.codec, stored.floats)


def restore(slot: Slot, base: Packing, parts: Parts, change: Change, paper: Receipt, kept: KeptAt) -> int:
    """Write the codes of a weight into their slot; returns how many bytes that are."""
    stored, codec = change.stored, base.codec
    if stored is None or change.what != "weight" or not isinstance(codec, Encoded):
        raise ValueError("it was replaced as a whole, and there is no copy of it")
    patch = Patch(paper.blob(f"{slot.name}:codes", longest(codec.before(codec.shape[0]), 1)))
    sink = PartSink(slot, Blank(slot.entry))
    with reading(stored) as readers:
        for rows, span in in_order(change.spans, every_row(stored).stop):
            part = readers(rows)
            part.step = codec.step
            again = part.parts if isinstance(part, Decoded) else None
            weight = Weight(span, part, paper.portable) if span is not None and again is None else None
            inverse = Inverse(weight, kept(rows.start, most_kept(codec.shape))) if weight is not None else None
            for s in weight.blocks() if weight is not None else part.blocks():
                row = rows.start + s.start
                if again is not None:
                    codes = codec.codes(again, row, row + s.stop - s.start)
                else:
                    codes = computed(codec, parts, row, inverse, part.read(s), s)
                codes = bytewise(codes)
                patch.apply(codes, codec.before(row))
                codec.put(codes, row, {codec.main: sink})
    sink.close()
    return slot.entry.nbytes
