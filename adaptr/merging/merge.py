"""Merge adapters into a checkpoint by streaming it: no model is built, memory does not grow with the model.

Tensors that nobody touches are copied by the kernel, the others filled block by block (`adaptr.merging.filling`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Adapter
from adaptr.adapter.weighting import Weight
from adaptr.bulk import workers
from adaptr.bulk.change import Plan, Tied
from adaptr.changes.plan import plan
from adaptr.checkpoint.open import Checkpoint, open_checkpoint
from adaptr.checkpoint.parts import INDEX
from adaptr.checkpoint.rewrite import Layout, NewTensor, copy_side_files, new_index, rewrite
from adaptr.checkpoint.side_files import CONFIG
from adaptr.checkpoint.stored import Shard
from adaptr.checkpoint.stream import digest_of
from adaptr.errors import NothingChanged, UsageError
from adaptr.files.meter import Meter, Progress
from adaptr.merging import compensation, into_gguf, lineage, placing, recast, receipt, unpacked
from adaptr.merging.configuration import configured
from adaptr.merging.filling import Filling, slot_of
from adaptr.merging.measured import Measured
from adaptr.merging.receipt_check import LARGEST_FILE
from adaptr.merging.shifting import shifted
from adaptr.merging.tokenizers import carried
from adaptr.merging.unpacked import PackedAgain
from adaptr.models.belonging import Compared, require_base
from adaptr.models.sizes import Config
from adaptr.report import Report
from adaptr.sources.given import Several, stacked
from adaptr.sources.open import reads, require_alone
from adaptr.sources.resolve import Place, resolve
from adaptr.untrusted import whole

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MergeReport(Report):
    """What a merge did.

    `relative_delta`: ‖W' - W‖ / ‖W‖ over the changed weights. `unchanged`: the share of their elements that the
    change was too small to move. Both are measured on every eighth block. `compared`: of each adapter, what tells that
    it belongs to this base. `packed`: what became of weights that were packed again. `dtype`: in which all floats were
    written, "" for the base's own; `rounding`: ‖written - computed‖ / ‖computed‖ of what is not in the dtype it had, on
    the same blocks. `exact`: the merge can be undone.
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
    compared: list[Compared] = field(default_factory=list)
    packed: PackedAgain | None = None
    dtype: str = ""
    rounding: float = 0.0
    exact: bool = True

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def merge(
    base: Place,
    adapters: Several,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    tied: Tied = None,
    receipt: bool = True,
    any_base: bool = False,
    ignore_beside: bool = False,
    packed: bool = False,
    lossy: bool = False,
    compensate: int | None = None,
    dtype: str | torch.dtype | None = None,
    progress: Progress | None = None,
) -> MergeReport:
    """Write the checkpoint `base` with `adapters` merged in to the folder `out`, which appears whole or not at all.

    Of a base that is one file, `out` is a file if it is called `*.safetensors`, with the receipt in a folder beside; a
    GGUF file becomes one called `*.gguf`, in the types of block that it has: `Q8_0` for those that are only read.

    `adapters`: one, or several: sources or adapters, alone or with a weight: `["style", ("tone.safetensors", 0.5)]`. A
    weight is a number, a gradient over the layers ([0, 1] from the first to the last), or either by pattern of the
    path. `tied`: what happens to tied weights that change, "both" or "untie". `receipt`: keep what a bit-exact
    `unmerge` needs. `any_base`: go on although an adapter says that it is of another base. `ignore_beside`: merge an
    adapter without the other weights in its folder, which raise `WeightsBeside` else. `packed`: pack the changed
    weights of a quantised base again, which are written as floats else; where less than half of the change survives
    that, it is refused unless `lossy`. `compensate`: the rank of a LoRA with what packing lost, written beside the
    receipt (`adaptr/compensation.safetensors`), to be attached to the result. `dtype`: "fp32", "bf16" or "fp16", in
    which all floats of the result are written, computed in fp32 and rounded once; by default each tensor is in its own.
    In a wider one less of the adapters is rounded away; after a narrower one `unmerge` is refused.

    Raises before anything is written: a `WrongBase` if an adapter does not fit, `TiedWeights` unless `tied` says what
    becomes of them, `NotMergeable` for what no weight holds, `OutputExists` unless `force`, `UsageError` for arguments
    that don't go together; `NothingChanged` if the result would be the base;
    `NonFinite` for NaN or infinity, and for what overflows `dtype`; `Unsupported` for `dtype` of a packed base.
    """
    if compensate is not None and not packed:
        raise UsageError("`compensate` is for what packing loses", hint="say `packed` too")
    folder = resolve(base).path
    stack = stacked(adapters, folder)
    left = require_alone((adapter for adapter, _ in stack), ignore_beside)
    kind, place = recast.asked(dtype), placing.place(folder, out)
    report = _merged(folder, stack, place, force, tied, receipt, any_base, packed, lossy, compensate, kind, progress)
    return replace(report, notes=[*report.notes, *left])


def _merged(
    base: Path,
    adapters: Sequence[tuple[Adapter, Weight]],
    out: Path,
    force: bool,
    tied: Tied,
    exact: bool,
    any_base: bool,
    again: bool,
    lossy: bool,
    rank: int | None,
    dtype: str,
    progress: Progress | None,
) -> MergeReport:
    """`exact`: the receipt is to hold what a bit-exact `unmerge` needs. `dtype`: as safetensors calls it, or ""."""
    started = time.perf_counter()
    placing.require(base, out, force, reads(base, *(adapter for adapter, _ in adapters)))
    checkpoint = open_checkpoint(base)
    narrowed = recast.narrowed(checkpoint, dtype)
    left_out, exact = recast.said(narrowed, dtype, exact), exact and not narrowed
    named = lineage.name_adapters(checkpoint, adapters)
    todo = plan(checkpoint, adapters, tied)
    compared = require_base(checkpoint, [adapter for adapter, _ in adapters], any_base)
    if again:
        todo = shifted(todo)
        unpacked.require_packable(todo)
    config, said = configured(checkpoint, todo, [adapter for adapter, _ in adapters])
    if checkpoint.in_gguf:
        into_gguf.require_room(checkpoint, todo, config)
    config, floated = unpacked.configured(checkpoint, todo, config, again)
    config = recast.configured(config, dtype)
    tokenizer, brought = carried(checkpoint, [adapter for adapter, _ in adapters])
    added = sorted(_new_tensors(checkpoint, todo, again, "").keys() - unpacked.changed(todo).keys())
    tensors, todo = len(todo.changes), recast.everywhere(todo, checkpoint, dtype)
    new = _new_tensors(checkpoint, todo, again, dtype)
    with placing.placed(checkpoint.root, out, force) as folder, receipt.Spool(folder) as blobs:
        lineage.keep_parent(checkpoint, folder)
        (folder / receipt.FOLDER).mkdir(exist_ok=True)
        named = lineage.save_adapters(adapters, named, folder / receipt.FOLDER)
        meter = Meter(checkpoint.nbytes, "merging", progress)
        filling = Filling(todo, blobs if exact else None, meter, again)
        made = unpacked.layouts(checkpoint, todo, new, again)
        slots = frozenset(slot_of(change, again) for change in todo.changes.values())
        rewrite(made, folder, slots, filling.fill, meter.add)
        fate = unpacked.require_survived(filling.fates, lossy or rank is not None, checkpoint.in_gguf)
        if not filling.total.moved:
            raise _nothing(filling.total)
        _side_files(checkpoint, folder, config, tokenizer, new, unpacked.gone(todo, again), made, blobs)
        if fate is not None and rank is not None:
            fate = replace(fate, compensation=compensation.compensate(folder, todo, filling.fates, rank, named))
        document = {"adapters": named, "tensors": filling.notes, "exact": exact, "tied": tied or ""}
        document |= unpacked.said(todo) | ({receipt.DTYPE: dtype} if dtype else {})
        if exact:
            document["untouched"] = _digests(checkpoint, todo, again)
        receipt_bytes = receipt.write(folder, {**document, "base": lineage.describe_base(checkpoint)}, blobs)
        written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    total = filling.total
    return MergeReport(
        out=str(out),
        targets=todo.targets,
        tensors=tensors,
        bytes=written,
        relative_delta=total.relative,
        unchanged=total.share_unchanged,
        adapters=named,
        tied=tied,
        added=added,
        receipt_bytes=receipt_bytes,
        seconds=time.perf_counter() - started,
        notes=[*said, *brought, *floated, *into_gguf.said(todo), *_remarks(total, fate is not None), *left_out],
        compared=compared,
        packed=fate,
        dtype=recast.called(dtype) if dtype else "",
        rounding=total.rounding,
        exact=exact,
    )


def _digests(checkpoint: Checkpoint, todo: Plan, again: bool) -> dict[str, str]:
    """The digests of the tensors that stay, so that `unmerge` can tell whether they did."""
    touched = {*todo.changes, *unpacked.touched(todo, again)}
    stay = [stored for name, stored in checkpoint.lying.items() if name not in touched]
    stay.sort(key=lambda stored: (-stored.entry.nbytes, stored.name))
    found = workers.run(digest_of, stay)
    return {stored.name: found[number] for number, stored in enumerate(stay)}


def _new_tensors(checkpoint: Checkpoint, todo: Plan, again: bool, dtype: str) -> dict[str, NewTensor]:
    """Tensors that the base does not have, or has in another shape or dtype."""
    from adaptr.format.io import dtype_shape

    new: dict[str, NewTensor] = {}
    for name, change in todo.changes.items():
        if change.packed is not None:
            new |= unpacked.new_tensor(change, again)
            continue
        value, had = change.value, change.stored.entry if change.stored else None
        shard = change.stored.shard if change.stored else checkpoint.shards[-1]
        kind, shape = dtype_shape(value) if value is not None else ("", ())
        if had is not None:
            kind, shape = had.dtype, had.shape if value is None else shape
        kind = recast.written(kind, dtype)
        if change.added or had is None or (kind, shape) != (had.dtype, had.shape):
            new[name] = NewTensor(kind, shape, shard)
    return new


def _side_files(
    checkpoint: Checkpoint,
    folder: Path,
    config: Config,
    tokenizer: Mapping[str, bytes],
    new: Mapping[str, NewTensor],
    gone: Collection[str],
    layouts: Sequence[tuple[Shard, Layout]],
    blobs: receipt.Spool,
) -> None:
    """Configuration and the rest; what had to change is kept in the receipt as it was."""
    instead = dict(tokenizer)
    if config != checkpoint.config:
        instead[CONFIG] = (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
    if (new or gone) and checkpoint.index:
        instead[INDEX] = new_index(checkpoint, new, gone)
    for name in (name for name in instead if (checkpoint.root / name).is_file()):
        blobs.put(f"file:{name}", whole(checkpoint.root / name, LARGEST_FILE))
    for shard, made in layouts:
        if made.raw != shard.raw:
            blobs.put(f"header:{shard.name}", shard.raw)
    copy_side_files(checkpoint, folder, instead)


def _nothing(total: Measured) -> NothingChanged:
    if total.relative:
        return NothingChanged(
            f"the merged checkpoint would equal the base: the change is {total.relative:.1e} of the weights, below "
            "what their dtype can hold",
            hint="use a base of higher precision, or keep the adapter attached",
        )
    return NothingChanged(
        "the merged checkpoint would equal the base: the adapter's delta is zero (untrained, or of weight 0)",
        hint="train it, or give it another weight",
    )


def _remarks(total: Measured, told: bool) -> list[str]:
    """Of weights that are packed again the report says what survived, and no wider dtype would help."""
    if told or total.share_unchanged <= 0.5:
        return []
    return ["most elements did not move: the change is small for the base's dtype; a wider `--dtype` keeps more"]
