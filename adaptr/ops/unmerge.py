"""Take adapters out of a merged checkpoint again, bit for bit, by its receipt alone."""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Adapter
from adaptr.checkpoint.open import Checkpoint, Shard, open_checkpoint
from adaptr.checkpoint.rewrite import Layout, Slot, copy_side_files, rewrite
from adaptr.checkpoint.stream import Rows, write_all
from adaptr.errors import DigestMismatch, NotMerged
from adaptr.files import replacing_folder
from adaptr.format import digest, read
from adaptr.format import header as headers
from adaptr.format.io import raw_bytes
from adaptr.meter import Meter, Progress
from adaptr.ops import lineage, receipt, workers
from adaptr.ops.blocks import Inverse, Kept, Weight, in_order
from adaptr.ops.change import Change, Plan
from adaptr.ops.patch import Patch
from adaptr.ops.receipt import Receipt
from adaptr.ops.stack import plan

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class UnmergeReport:
    """What was restored. `tensors`: how many were recomputed, each verified against the base's sha256."""

    out: str
    tensors: int
    bytes: int
    adapters: list[dict[str, Any]]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def unmerge(
    merged: str | Path, out: str | Path, *, force: bool = False, progress: Progress | None = None
) -> UnmergeReport:
    """Write the base of `merged` to the folder `out`.

    Raises `NotMerged` without an exact receipt, and `DigestMismatch` if a restored tensor is not the base's, in which
    case nothing is written.
    """
    started = time.perf_counter()
    checkpoint = open_checkpoint(merged)
    paper = receipt.read(checkpoint.root)
    if not paper.exact:
        raise NotMerged(
            f"`{checkpoint.root}` was merged with `--no-receipt`: its receipt names the base but can't restore it"
        )
    stack = [(_adapter(paper, number), float(entry["weight"])) for number, entry in enumerate(paper.adapters)]
    with replacing_folder(Path(out), force) as folder:
        meter = Meter(checkpoint.nbytes, "unmerging", progress)
        job = _Job(checkpoint, paper, stack, meter)
        rewrite(_layouts(checkpoint, paper), folder, frozenset(job.todo), job.fill, meter.add)
        copy_side_files(checkpoint, folder, {name: paper.blob(f"file:{name}") for name in paper.files})
        _same_base(folder, paper)
        lineage.restore_parent(paper, folder)
        written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return UnmergeReport(str(out), len(job.todo), written, paper.adapters, time.perf_counter() - started)


def _adapter(paper: Receipt, number: int) -> Adapter:
    """An adapter from beside the receipt, checked against its digest."""
    path = paper.adapter_file(number)
    digest.require(path, paper.adapters[number]["digest"])
    return read(path)


def _same_base(folder: Path, paper: Receipt) -> None:
    """Raises `DigestMismatch` if headers or configuration are not those that the receipt names."""
    base = paper.document["base"]
    for shard in open_checkpoint(folder).shards:
        found = "sha256:" + hashlib.sha256(shard.raw).hexdigest()
        if found != base["headers"].get(shard.path.name):
            raise DigestMismatch(
                f"the header of `{shard.path.name}` does not come back as the base's; use the base itself"
            )
    if "config" in base:
        digest.require(folder / "config.json", base["config"])


def _layouts(checkpoint: Checkpoint, paper: Receipt) -> list[tuple[Shard, Layout]]:
    """Each shard with the header that the base had."""
    found = []
    for shard in checkpoint.shards:
        raw = paper.blob(f"header:{shard.path.name}") or shard.raw
        found.append((shard, Layout(raw, headers.parse(raw[8:], len(raw)).entries)))
    return found


class _Job:
    """The tensors to restore, each checked against the base's digest."""

    def __init__(
        self, checkpoint: Checkpoint, paper: Receipt, stack: list[tuple[Adapter, float]], meter: Meter
    ) -> None:
        self.paper, self.meter = paper, meter
        notes: Mapping[str, Any] = paper.document["tensors"]
        self.todo = {name: note for name, note in notes.items() if not note.get("added")}
        self.plan: Plan = plan(checkpoint, stack, paper.document.get("tied") or None, check=False)
        strange = (set(self.todo) - set(self.plan.changes)) | (set(self.plan.changes) - set(notes))
        if strange:
            raise DigestMismatch(
                f"the receipt of `{checkpoint.root.name}` and its adapters disagree on whether `{min(strange)}` changed"
            )

    def fill(self, slots: list[Slot]) -> None:
        workers.run(self._one, workers.spread(slots))

    def _one(self, slot: Slot) -> None:
        note = self.todo[slot.name]
        found = self._old(slot) if note.get("old") else self._weight(slot, self.plan.changes[slot.name], note)
        if found != note["digest"]:
            raise DigestMismatch(
                f"`{slot.name}` does not come back as the base's ({found}, the receipt says {note['digest']}): the "
                "merged checkpoint or its receipt was changed since, or this machine's arithmetic differs from the one "
                "that merged; use the base itself"
            )

    def _old(self, slot: Slot) -> str:
        """A tensor whose old bytes are in the receipt."""
        try:
            old = zlib.decompressobj().decompress(self.paper.blob(f"{slot.name}:old"), slot.entry.nbytes + 1)
        except zlib.error as error:
            raise DigestMismatch(f"the receipt's copy of `{slot.name}` is damaged: {error}") from None
        if len(old) != slot.entry.nbytes:
            raise DigestMismatch(f"the receipt holds {len(old)} bytes for `{slot.name}`, wanted {slot.entry.nbytes}")
        write_all(slot.target, slot.offset, old)
        self.meter.add(len(old))
        return "sha256:" + hashlib.sha256(old).hexdigest()

    def _weight(self, slot: Slot, change: Change, note: Mapping[str, Any]) -> str:
        assert change.stored is not None
        sha, wrong = hashlib.sha256(), Patch(self.paper.blob(f"{slot.name}:patch"))
        with open(change.stored.shard.path, "rb") as file:
            for rows, span in in_order(change.spans, change.stored.entry.shape[0]):
                part = Rows(change.stored, file.fileno(), rows)
                weight = Weight(span, part) if span is not None else None
                kept = self._kept(slot.name, rows.start, note)
                inverse = Inverse(weight, kept) if weight is not None and weight.invertible else None
                for s in weight.blocks() if weight else part.blocks():
                    block = part.read(s)
                    if weight is not None:
                        block = inverse.below(block, s) if inverse else block
                        wrong.apply(block, part.flat(s))
                    sha.update(raw_bytes(block))
                    at = slot.offset + (rows.start + s.start) * part.row_bytes
                    self.meter.add(write_all(slot.target, at, raw_bytes(block)))
        return "sha256:" + sha.hexdigest()

    def _kept(self, name: str, row: int, note: Mapping[str, Any]) -> Kept:
        import torch

        kept: Kept = {}
        for key, shape in note.get("kept", {}).items():
            start, number, param = key.removeprefix(f"{name}:").split(".", 2)
            if int(start) == row:
                values = torch.frombuffer(bytearray(self.paper.blob(key)), dtype=torch.float32)
                kept.setdefault(int(number), {})[param] = values.reshape(shape)
        return kept
