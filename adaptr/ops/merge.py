"""Merge adapters into a checkpoint by streaming it: no model is built, memory does not grow with the model.

Every changed weight is computed in fp32 over the whole stack and rounded once (`adaptr.ops.blocks`). The receipt is
made in the same pass: while a block is in the cache, its algebraic inverse is computed too, and what that gets wrong
is noted.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Adapter
from adaptr.checkpoint.open import INDEX, Checkpoint, open_checkpoint
from adaptr.checkpoint.rewrite import Layout, NewTensor, Slot, copy_side_files, layout, new_index, rewrite
from adaptr.checkpoint.stream import Rows, copy_range, write_all
from adaptr.errors import AlreadyAttached, NonFinite, NothingChanged
from adaptr.files import replacing_folder
from adaptr.format import digest
from adaptr.format import write as write_adapter
from adaptr.format.io import raw_bytes
from adaptr.ops import patch, receipt, workers
from adaptr.ops.blocks import Kept, Weight, in_order, merged_bias
from adaptr.ops.stack import Change, Plan, Tied, plan

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int, str], None]
#: Every eighth block is looked at for the report's sizes and shares.
SAMPLE = 8


@dataclass
class Measured:
    """What a merge did to one tensor. Sums are over the sampled blocks."""

    elements: int = 0
    unchanged: int = 0
    base: float = 0.0
    delta: float = 0.0
    moved: bool = False

    def add(self, other: Measured) -> None:
        self.elements += other.elements
        self.unchanged += other.unchanged
        self.base += other.base
        self.delta += other.delta
        self.moved |= other.moved


@dataclass(frozen=True)
class MergeReport:
    """What a merge did.

    `relative_delta`: ‖W' - W‖ / ‖W‖ over the changed weights. `unchanged`: the share of their elements that the
    change was too small to move. Both are measured on every eighth block.
    """

    out: str
    targets: int
    tensors: int
    bytes: int
    relative_delta: float
    unchanged: float
    adapters: list[dict[str, Any]]
    tied: str | None
    added: list[str]
    receipt_bytes: int
    seconds: float
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def merge(
    base: str | Path,
    adapters: Sequence[tuple[Adapter, float]],
    out: str | Path,
    *,
    force: bool = False,
    tied: Tied = None,
    exact: bool = True,
    progress: Progress | None = None,
) -> MergeReport:
    """Write the checkpoint `base` with `adapters` (and their weights) merged in to the folder `out`.

    `exact`: the receipt holds what a bit-exact `unmerge` needs. Raises before anything is written if an adapter does
    not fit; `NothingChanged` if the result would be the base; `NonFinite` for NaN or infinity. `out` appears whole or
    not at all.
    """
    started = time.perf_counter()
    checkpoint = open_checkpoint(base)
    todo = plan(checkpoint, adapters, tied)
    new = _new_tensors(checkpoint, todo)
    with replacing_folder(Path(out), force) as folder:
        named = _save_adapters(checkpoint, adapters, folder)
        with receipt.Spool(folder) as blobs:
            job = _Job(checkpoint, todo, blobs if exact else None, progress)
            layouts = [(shard, layout(shard, new)) for shard in checkpoint.shards]
            rewrite(layouts, folder, frozenset(todo.changes), job.fill, job.copied)
            if not job.total.moved and not new:
                raise NothingChanged(_nothing(job.total))
            _side_files(checkpoint, folder, todo, new, layouts, blobs)
            document = {
                "adapters": named,
                "tensors": job.tensors,
                "exact": exact,
                "tied": tied or "",
                "base": _base(checkpoint),
            }
            size = receipt.write(folder, document, blobs)
        written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return _report(out, todo, job, named, tied, new, size, written, time.perf_counter() - started)


class _Job:
    """The filling of the changed tensors, and what was seen on the way."""

    def __init__(
        self, checkpoint: Checkpoint, todo: Plan, blobs: receipt.Spool | None, progress: Progress | None
    ) -> None:
        self.todo, self.blobs = todo, blobs
        self.tensors: dict[str, Any] = {}
        self.total = Measured()
        self._lock = threading.Lock()
        self._progress, self._done, self._all = progress, 0, checkpoint.nbytes

    def copied(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._progress is not None:
                self._progress(min(self._done, self._all), self._all, "merging")

    def fill(self, slots: list[Slot]) -> None:
        order = workers.spread(slots)
        found = workers.run(self._one, order)
        for index in sorted(found, key=lambda i: order[i].name):
            note, measured = found[index]
            self.total.add(measured)
            self.tensors[order[index].name] = note

    def _one(self, slot: Slot) -> tuple[dict[str, Any], Measured]:
        change = self.todo.changes[slot.name]
        return {"weight": self._weight, "bias": self._bias, "replaced": self._replaced, "copy": self._copy}[
            change.what
        ](slot, change)

    def _weight(self, slot: Slot, change: Change) -> tuple[dict[str, Any], Measured]:
        assert change.stored is not None
        measured, sha = Measured(), hashlib.sha256()
        note = _note(change)
        found = patch.Differences()
        with open(change.stored.shard.path, "rb") as file:
            for rows, span in in_order(change.spans, change.stored.entry.shape[0]):
                part = Rows(change.stored, file.fileno(), rows)
                at = slot.offset + rows.start * part.row_bytes
                if span is None:
                    _pass_over(part, slot.target, at, sha)
                    continue
                kept: Kept = {}
                self._span(slot, Weight(span, part), at, sha, measured, found, kept)
                self._put_kept(slot.name, rows.start, kept, note)
        self._put_patch(slot.name, change, found, note)
        return {**note, "digest": "sha256:" + sha.hexdigest()}, measured

    def _span(
        self,
        slot: Slot,
        weight: Weight,
        at: int,
        sha: Any,
        measured: Measured,
        found: patch.Differences,
        kept: Kept,
    ) -> None:
        """Merge a span block by block."""
        merged, rows = weight.merged(), weight.rows
        per_row = rows.row_bytes // rows.dtype.itemsize
        for number, s in enumerate(weight.blocks()):
            old = rows.read(s)
            sha.update(raw_bytes(old))
            value = weight.take(merged, s)
            new = value.to(rows.dtype).contiguous()
            _measure(slot.name, measured, old, new, value, number % SAMPLE == 0)
            if self.blobs is not None:
                if weight.keeps:
                    weight.keep(s, kept)
                computed = (
                    weight.take(weight.below(new, kept), s).to(rows.dtype).contiguous() if weight.invertible else new
                )
                found.add(old, computed, (rows.start + s.start) * per_row)
            write_all(slot.target, at + s.start * rows.row_bytes, raw_bytes(new))
            self.copied(old.numel() * old.element_size())

    def _bias(self, slot: Slot, change: Change) -> tuple[dict[str, Any], Measured]:
        assert change.stored is not None
        layers = change.spans[0].layers
        with open(change.stored.shard.path, "rb") as file:
            old = Rows(change.stored, file.fileno(), change.spans[0].rows).read(slice(None)).clone()
        value = merged_bias(layers, old.float())
        new = value.to(old.dtype).contiguous()
        measured = Measured()
        _measure(slot.name, measured, old, new, value, True)
        write_all(slot.target, slot.offset, raw_bytes(new))
        return self._keep_old(slot.name, change, raw_bytes(old)), measured

    def _replaced(self, slot: Slot, change: Change) -> tuple[dict[str, Any], Measured]:
        import torch

        assert change.value is not None
        value = change.value.to(getattr(torch, _torch_name(slot.entry.dtype))).contiguous()
        _finite(slot.name, value.float())
        write_all(slot.target, slot.offset, raw_bytes(value))
        if change.stored is None:
            return {"added": True}, Measured(moved=True)
        with open(change.stored.shard.path, "rb") as file:
            file.seek(change.stored.offset)
            old = file.read(change.stored.entry.nbytes)
        return self._keep_old(slot.name, change, old), Measured(moved=old != bytes(raw_bytes(value)))

    def _copy(self, slot: Slot, change: Change) -> tuple[dict[str, Any], Measured]:
        assert change.stored is not None
        with open(change.stored.shard.path, "rb") as file:
            copy_range(file.fileno(), change.stored.offset, slot.target, slot.offset, slot.entry.nbytes)
        return {"added": True}, Measured()

    def _keep_old(self, name: str, change: Change, old: bytes | memoryview) -> dict[str, Any]:
        """Biases and replaced parameters are small: the receipt holds the old bytes."""
        assert change.stored is not None
        self._put(f"{name}:old", zlib.compress(old, 6))
        return {**_note(change), "digest": "sha256:" + hashlib.sha256(old).hexdigest(), "old": True}

    def _put_kept(self, name: str, row: int, kept: Kept, note: dict[str, Any]) -> None:
        for number, tensors in kept.items():
            for key, tensor in tensors.items():
                blob = f"{name}:{row}.{number}.{key}"
                note.setdefault("kept", {})[blob] = list(tensor.shape)
                self._put(blob, bytes(raw_bytes(tensor.float())))

    def _put_patch(self, name: str, change: Change, found: patch.Differences, note: dict[str, Any]) -> None:
        if self.blobs is not None and not change.added:
            blob = found.encode()
            if blob:
                self._put(f"{name}:patch", blob)

    def _put(self, key: str, blob: bytes) -> None:
        if self.blobs is not None:
            with self._lock:
                self.blobs.put(key, blob)


def _note(change: Change) -> dict[str, Any]:
    assert change.stored is not None
    note: dict[str, Any] = {"dtype": change.stored.entry.dtype, "shape": list(change.stored.entry.shape)}
    return {**note, "added": True} if change.added else note


def _pass_over(part: Rows, target: int, at: int, sha: Any) -> None:
    """Rows of a changed tensor that stay."""
    for s in part.blocks():
        block = raw_bytes(part.read(s))
        sha.update(block)
        write_all(target, at + s.start * part.row_bytes, block)


def _measure(name: str, measured: Measured, old: Tensor, new: Tensor, value: Tensor, sampled: bool) -> None:
    import torch

    _finite(name, new.float() if new.dtype == torch.float16 else value)
    if not measured.moved:
        measured.moved = not torch.equal(old, new)
    if sampled:
        before = old.to(value.dtype)
        measured.elements += old.numel()
        measured.unchanged += int((old == new).sum())
        measured.base += float(before.square().sum())
        measured.delta += float((value - before).square().sum())


def _finite(name: str, value: Tensor) -> None:
    if not math.isfinite(float(value.sum())):
        raise NonFinite(
            f"`{name}` would hold NaN or infinity after the merge; look at the adapter with `adaptr inspect`"
        )


def _torch_name(dtype: str) -> str:
    from adaptr.format.io import TORCH_NAMES

    return TORCH_NAMES[dtype]


# ---------------------------------------------------------------- around the weights


def _new_tensors(checkpoint: Checkpoint, todo: Plan) -> dict[str, NewTensor]:
    """Tensors that the base does not have, or has in another shape."""
    from adaptr.format.io import dtype_shape

    new: dict[str, NewTensor] = {}
    for name, change in todo.changes.items():
        if change.value is not None:
            dtype, shape = dtype_shape(change.value)
            shard = change.stored.shard if change.stored else checkpoint.shards[-1]
            dtype = change.stored.entry.dtype if change.stored else dtype
            if change.stored is None or change.stored.entry.shape != shape:
                new[name] = NewTensor(dtype, shape, shard)
        elif change.added:
            assert change.stored is not None
            new[name] = NewTensor(change.stored.entry.dtype, change.stored.entry.shape, change.stored.shard)
    return new


def _save_adapters(
    checkpoint: Checkpoint, adapters: Sequence[tuple[Adapter, float]], folder: Path
) -> list[dict[str, Any]]:
    """Put the adapters beside the receipt; returns how the receipt names them."""
    named: list[dict[str, Any]] = []
    merged_before = _merged_before(checkpoint)
    for adapter, weight in adapters:
        weights = digest.of_adapter(adapter)
        if any(other["weights"] == weights for other in named):
            raise AlreadyAttached(
                f"adapter `{adapter.label}` is given twice; give it once, with the sum of the weights"
            )
        if weights in merged_before:
            raise AlreadyAttached(f"adapter `{adapter.label}` is merged into `{checkpoint.root.name}` already")
        path = folder / receipt.FOLDER / "adapter"
        write_adapter(adapter, path, force=True)
        name = digest.of_file(path)
        path.rename(path.parent / receipt.adapter_name(name))
        named.append(
            {"digest": name, "weights": weights, "method": adapter.method, "name": adapter.name, "weight": weight}
        )
    return named


def _merged_before(checkpoint: Checkpoint) -> set[str]:
    if not (checkpoint.root / receipt.FOLDER / receipt.FILE).is_file():
        return set()
    return {entry["weights"] for entry in receipt.read(checkpoint.root).adapters}


def _base(checkpoint: Checkpoint) -> dict[str, Any]:
    """The base as far as it can be named without reading all of it: its headers and configuration, by digest."""
    headers = {shard.path.name: "sha256:" + hashlib.sha256(shard.raw).hexdigest() for shard in checkpoint.shards}
    config = checkpoint.root / "config.json"
    found: dict[str, Any] = {"headers": headers}
    if checkpoint.root.is_dir() and config.is_file():
        found["config"] = digest.of_file(config)
    parent = checkpoint.root / receipt.FOLDER / receipt.FILE
    if parent.is_file():
        found["receipt"] = digest.of_file(parent)
    return found


def _side_files(
    checkpoint: Checkpoint,
    folder: Path,
    todo: Plan,
    new: Mapping[str, NewTensor],
    layouts: Sequence[tuple[Any, Layout]],
    blobs: receipt.Spool,
) -> None:
    """Configuration and the rest; what had to change is kept in the receipt as it was."""
    instead: dict[str, bytes] = {}
    if todo.untied:
        import json

        config = {**checkpoint.config, "tie_word_embeddings": False}
        instead["config.json"] = (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
    if new and checkpoint.index:
        instead[INDEX] = new_index(checkpoint, new)
    for name in instead:
        blobs.put(f"file:{name}", (checkpoint.root / name).read_bytes())
    for shard, made in layouts:
        if made.raw != shard.raw:
            blobs.put(f"header:{shard.path.name}", shard.raw)
    copy_side_files(checkpoint, folder, instead)


def _nothing(total: Measured) -> str:
    size = math.sqrt(total.delta / total.base) if total.base else 0.0
    if size:
        return (
            f"the merged checkpoint would equal the base: the change is {size:.1e} of the weights, below what their "
            "dtype "
            "can hold; use a base of higher precision, or keep the adapter attached"
        )
    return "the merged checkpoint would equal the base: the adapter's delta is zero (untrained, or of weight 0)"


def _report(
    out: str | Path,
    todo: Plan,
    job: _Job,
    named: list[dict[str, Any]],
    tied: Tied,
    new: Mapping[str, NewTensor],
    receipt_bytes: int,
    written: int,
    seconds: float,
) -> MergeReport:
    total = job.total
    notes = []
    if total.elements and total.unchanged / total.elements > 0.5:
        notes.append(
            "most elements did not move: the change is small for the base's dtype; a wider dtype would keep more"
        )
    return MergeReport(
        out=str(out),
        targets=todo.targets,
        tensors=len(todo.changes),
        bytes=written,
        relative_delta=math.sqrt(total.delta / total.base) if total.base else 0.0,
        unchanged=total.unchanged / total.elements if total.elements else 0.0,
        adapters=named,
        tied=tied,
        added=sorted(new),
        receipt_bytes=receipt_bytes,
        seconds=seconds,
        notes=notes,
    )
