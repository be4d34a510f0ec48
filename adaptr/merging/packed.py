"""Changed weights that lie packed: decoded block by block, merged in fp32, and written as floats or packed again. What
lies in a GGUF file is always written as it lies there, biases and replaced parameters too.

Packed again they stay on the grid that is there: the scales are kept, so that a change of zero changes nothing. What
`unmerge` needs are the codes as they were, which the inverse of the merge tells but for a few (`Differences`), and the
scales, if these go; where that is more than the codes themselves, they are kept whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr.bulk.blocks import Inverse, Kept, Weight, in_order, merged_bias
from adaptr.bulk.change import Change, Span
from adaptr.checkpoint.decoded import Decoded
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.reading import every_row, reading
from adaptr.checkpoint.rewrite import Slot
from adaptr.checkpoint.stored import Stored
from adaptr.checkpoint.stream import CHUNK, Rows, digest_of, read_into
from adaptr.contract.view import ALL
from adaptr.files.meter import Meter
from adaptr.format.io import raw_bytes
from adaptr.merging.fate import Fate
from adaptr.merging.measured import SAMPLE, Measured, require_finite
from adaptr.merging.patch import Differences
from adaptr.merging.receipt import kept_blobs
from adaptr.merging.written import Codes, Floats, Written
from adaptr.packings import Encoded, Parts

if TYPE_CHECKING:
    from torch import Tensor

    Put = Callable[[str, bytes], None]

#: Codes hardly get smaller, whatever is tried.
LEVEL = 1


def stays(change: Change, again: bool) -> bool:
    """Whether what lay packed is written in its parts again. `again`: weights are, and not as floats."""
    stored = change.packed
    if stored is None:
        return False
    return (again and change.what == "weight") or (isinstance(stored.codec, Encoded) and stored.codec.in_place)


@dataclass
class Filled:
    """What was done to one weight: what the receipt says of its parts, and what was measured."""

    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    measured: Measured = field(default_factory=Measured)
    fate: Fate | None = None


class Packing:
    """Fills the slots of packed weights. `put`: where blobs of the receipt go, None for a receipt without them."""

    def __init__(self, put: Put | None, meter: Meter) -> None:
        self.put, self.meter = put, meter

    def fill(self, slots: Mapping[str, Slot], change: Change, again: bool) -> Filled:
        """`slots`: by the names of stored tensors. `again`: packed, and not as floats."""
        stored = change.stored
        assert isinstance(stored, Packed)
        done = Filled(fate=_fate(stored) if again else None)
        with reading(stored) as readers:
            written = _written(slots, stored, readers(slice(0, 0)), again)
            left = _Left(stored, again) if self.put is not None and change.what == "weight" else None
            for rows, span in in_order(change.spans, every_row(stored).stop):
                part = readers(rows)
                assert isinstance(part, Decoded)
                self._span(done, written, left, part, _merging(change, span, part))
                if left is not None and left.kept:
                    done.notes.setdefault(stored.main.name, {}).setdefault("kept", {}).update(
                        self._put_kept(stored.main.name, rows.start, left.kept)
                    )
            written.close()
        self._note(done, stored, left, again)
        return done

    def _span(
        self, done: Filled, written: Written, left: _Left | None, part: Decoded, merging: Weight | _Given | None
    ) -> None:
        if left is not None:
            left.begin(merging if isinstance(merging, Weight) else None)
        for number, s in enumerate(merging.blocks() if merging is not None else part.blocks()):
            old = part.read(s)
            wanted = merging.merged(s).float() if merging is not None else old.float()
            row = part.start + s.start
            new = written.write(wanted, row)
            require_finite(part.stored.name, new, wanted)
            self._measure(done, old, wanted, new, number)
            if done.fate is not None:
                done.fate.look(old, wanted, new, written.steps(row))
            if left is not None:
                left.add(part, new, written.codes, s)
            self.meter.add(_share(part, s))

    def _measure(self, done: Filled, old: Tensor, wanted: Tensor, new: Tensor, number: int) -> None:
        before = old.to(new.dtype)
        done.measured.look(before, new)
        if number % SAMPLE == 0:
            done.measured.sample(before.contiguous(), new.contiguous(), (wanted - old.float()).contiguous())

    def _note(self, done: Filled, stored: Packed, left: _Left | None, again: bool) -> None:
        """What the receipt says of each part that is no longer as it was."""
        main, patch = stored.main, left.encode() if left is not None else None
        told = patch is not None and len(patch) < main.entry.nbytes
        if patch is not None and told:
            self._put(f"{main.name}:codes", patch)
            done.notes.setdefault(main.name, {}).update({**_about(stored, main), "codes": True})
        there = {stored.codec.main} if again else {*stored.parts}
        for name, note in self.keep(stored, sorted(there - {stored.codec.main} if told else there)).items():
            done.notes.setdefault(name, {}).update(note)
        if not again:
            done.notes.setdefault(stored.name, {"added": True})

    def keep(self, stored: Packed, roles: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Keep parts of a weight whole; what the receipt says of them."""
        found = {}
        for part in (stored.parts[role] for role in roles):
            found[part.name] = {**_about(stored, part), "old": True}
            self._put_whole(part)
        return found

    def _put_whole(self, part: Stored) -> None:
        """A piece at a time: a table of words in bytes may be larger than all that a merge may take."""
        if self.put is None:
            return
        coder, view = zlib.compressobj(LEVEL), memoryview(bytearray(CHUNK))
        with open(part.shard.path, "rb") as file:
            for at in range(0, part.entry.nbytes, CHUNK):
                piece = view[: min(CHUNK, part.entry.nbytes - at)]
                read_into(file.fileno(), piece, part.offset + at, part)
                self._put(f"{part.name}:old", coder.compress(piece))
        self._put(f"{part.name}:old", coder.flush())

    def keep_whole(self, stored: Packed) -> dict[str, dict[str, Any]]:
        """The same of a weight that is replaced by floats."""
        found = self.keep(stored, stored.parts)
        found.setdefault(stored.name, {"added": True})
        return found

    def _put_kept(self, name: str, row: int, kept: Kept) -> dict[str, list[int]]:
        found = {}
        for blob, tensor in kept_blobs(name, row, kept):
            found[blob] = list(tensor.shape)
            self._put(blob, bytes(raw_bytes(tensor)))
        return found

    def _put(self, key: str, blob: bytes) -> None:
        if self.put is not None and blob:
            self.put(key, blob)


class _Given:
    """Rows that are replaced by others."""

    def __init__(self, value: Tensor, part: Decoded) -> None:
        self.value, self.part = value.reshape(part.stored.entry.shape), part

    def blocks(self) -> list[slice]:
        return self.part.blocks()

    def merged(self, s: slice) -> Tensor:
        return self.value[s]


def _merging(change: Change, span: Span | None, part: Decoded) -> Weight | _Given | None:
    """What gives the rows of a span as they are wanted, None where they stay."""
    if change.value is not None:
        return _Given(change.value, part)
    if span is None:
        return None
    return _Given(merged_bias(span.layers, part.read(ALL)), part) if change.what == "bias" else Weight(span, part)


def _fate(stored: Packed) -> Fate | None:
    """Of floats there is none: all of a change survives that their dtype holds."""
    codec = stored.codec
    assert isinstance(codec, Encoded)
    return None if codec.is_float else Fate(codec.written.scheme)


class _Left:
    """The codes as they were, less what can be computed from the output and the adapters."""

    def __init__(self, stored: Packed, again: bool) -> None:
        self.stored, self.again = stored, again
        codec = stored.codec
        told = isinstance(codec, Encoded) and codec.written == codec
        self.patch: Differences | None = Differences() if told else None
        self.kept = Kept()
        self._weight: Weight | None = None
        self._inverse: Inverse | None = None

    def begin(self, weight: Weight | None) -> None:
        """The next rows, and the layers on them, if there are any."""
        self.kept, self._weight, self._inverse = Kept(), weight, None
        if weight is None or self.again:
            return
        if not weight.invertible:
            self.patch = None
        elif self.patch is not None:
            weight.keep_whole(self.kept)
            self._inverse = Inverse(weight, self.kept)

    def add(self, part: Decoded, new: Tensor, codes: Tensor | None, s: slice) -> None:
        """Rows `s`, as they are in the output."""
        codec = self.stored.codec
        if self.patch is None or not isinstance(codec, Encoded):
            return
        if self._inverse is not None and self._weight is not None and self._weight.keeps:
            self._weight.keep(s, self.kept)
        row, count = part.start + s.start, s.stop - s.start
        if codes is None:
            codes = computed(codec, part.parts, row, self._inverse, new, s)
        true = codec.codes(part.parts, row, row + count)
        self.patch.add(bytewise(true), bytewise(codes), codec.before(row))

    def encode(self) -> bytes | None:
        return self.patch.encode() if self.patch is not None else None


def computed(codec: Encoded, parts: Parts, row: int, inverse: Inverse | None, new: Tensor, s: slice) -> Tensor:
    """The codes of rows `s`, the first of which is `row` of all, that the output's values tell: those nearest to them
    without the adapters.
    """
    below = inverse.below(new.float(), s) if inverse is not None else new.float()
    return codec.nearest(below.float(), parts, row)


def _about(stored: Packed, part: Stored) -> dict[str, Any]:
    return {
        "dtype": part.entry.dtype, "shape": list(part.entry.shape), "of": stored.name, "digest": digest_of(part)
    }  # fmt: skip


def bytewise(codes: Tensor) -> Tensor:
    import torch

    return codes.to(torch.uint8).contiguous()


def _written(slots: Mapping[str, Slot], stored: Packed, rows: Rows, again: bool) -> Written:
    if not again:
        return Floats(slots[stored.name], every_row(stored).stop)
    assert isinstance(rows, Decoded)
    assert isinstance(stored.codec, Encoded)
    return Codes(stored.codec.written, rows.parts, {stored.codec.main: slots[stored.main.name]})


def _share(part: Decoded, s: slice) -> int:
    """Bytes of the packed weight that rows `s` of it are."""
    stored = part.stored
    assert isinstance(stored, Packed)
    return int(stored.nbytes * (s.stop - s.start) // max(every_row(stored).stop, 1))
