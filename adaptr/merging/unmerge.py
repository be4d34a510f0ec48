"""Take adapters out of a merged checkpoint again, bit for bit, by its receipt alone."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adaptr.adapter import Adapter, weighting
from adaptr.checkpoint.open import Checkpoint, open_checkpoint
from adaptr.checkpoint.rewrite import copy_side_files, rewrite
from adaptr.errors import NotMerged, shown
from adaptr.files.meter import Meter, Progress
from adaptr.format import digest, read
from adaptr.merging import lineage, placing, recast, receipt
from adaptr.merging.damage import damaged
from adaptr.merging.proof import Proof, prove
from adaptr.merging.receipt import Receipt
from adaptr.merging.receipt_check import FILE_BLOB
from adaptr.merging.restoring import Job, layouts
from adaptr.report import Report
from adaptr.sources.open import reads
from adaptr.sources.resolve import Place, resolve


@dataclass(frozen=True)
class UnmergeReport(Report):
    """What was restored. `tensors`: how many were recomputed. `compared`: how many tensors, recomputed or left, are the
    base's by digest; `taken`: how many are as in the merged checkpoint and have no digest in its receipt.
    """

    out: str
    tensors: int
    bytes: int
    adapters: list[dict[str, Any]]
    seconds: float
    compared: int
    taken: int
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def unmerge(
    merged: Place, out: str | os.PathLike[str], *, force: bool = False, progress: Progress | None = None
) -> UnmergeReport:
    """Take the adapters out of a merged checkpoint again, bit for bit: the base of `merged` goes to the folder `out`.

    Raises `NotMerged` without an exact receipt, and `DigestMismatch` if a tensor, a header or the configuration is not
    the base's, in which case nothing is written.
    """
    started = time.perf_counter()
    source = resolve(merged).path
    place = placing.place(source, out)
    placing.require(source, place, force, reads(source))
    checkpoint = open_checkpoint(source)
    paper = receipt.read(checkpoint.root)
    checkpoint = _as_the_base_was_called(checkpoint, paper)
    if not paper.exact:
        raise NotMerged(
            f"`{checkpoint.root}` was merged with {_why(paper)}: its receipt names the base but can't restore it",
            hint="use the base itself",
        )
    weights = [weighting.restored(entry["weight"], entry["name"]) for entry in paper.adapters]
    stack = [(adapter_of(paper, number), weight) for number, weight in enumerate(weights)]
    with placing.placed(checkpoint.root, place, force) as folder:
        meter = Meter(checkpoint.nbytes, "unmerging", progress)
        made = layouts(checkpoint, paper)
        job = Job(checkpoint, paper, made, stack, meter)
        rewrite(made, folder, frozenset(job.todo), job.fill, meter.add)
        _side_files(checkpoint, paper, folder)
        lineage.restore_parent(paper, folder)
        proof = prove(folder, paper)
        written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    seconds, notes = time.perf_counter() - started, _notes(proof)
    return UnmergeReport(str(out), len(job.todo), written, paper.adapters, seconds, proof.compared, proof.taken, notes)


def _why(paper: Receipt) -> str:
    """Why a receipt has not what unmerging needs."""
    kinds = {note.get("dtype") for note in paper.document["tensors"].values()} - {None, paper.dtype}
    lost = sorted(kind for kind in kinds if recast.WIDER.get(kind) != paper.dtype)
    if not paper.dtype or not lost:
        return "`--no-receipt`"
    had = " and ".join(map(recast.called, lost))
    return f"`--dtype`, in {recast.called(paper.dtype)}, which does not hold all of the base's {had}"


def _as_the_base_was_called(checkpoint: Checkpoint, paper: Receipt) -> Checkpoint:
    """One file may be called otherwise than the base's: the receipt says what that was."""
    names = [*paper.document["base"]["headers"]]
    if not checkpoint.root.is_file() or len(names) != 1:
        return checkpoint
    (shard,) = checkpoint.shards
    renamed = replace(shard, name=names[0])
    tensors = {name: replace(stored, shard=renamed) for name, stored in checkpoint.tensors.items()}
    return replace(checkpoint, shards=(renamed,), tensors=tensors)


def adapter_of(paper: Receipt, number: int) -> Adapter:
    """An adapter from beside the receipt, checked against its digest."""
    path = paper.adapter_file(number)
    if not paper.has_adapter(number):
        raise NotMerged(
            f"`{path}` is not there: unmerging needs the adapters beside the receipt",
            hint="put them back, or use the base itself",
        )
    digest.require(path, paper.adapters[number]["digest"])
    return read(path)


def _side_files(checkpoint: Checkpoint, paper: Receipt, folder: Path) -> None:
    """Configuration, tokenizer and the rest, as the base had them; what the merge brought along stays behind."""
    if paper.files and checkpoint.root.is_file():
        raise damaged(f"the receipt has `{shown(paper.files[0])}`, and `{checkpoint.root}` is one file")
    had = paper.document["base"].get("files")
    brought = [name for name in checkpoint.side_files() if had is not None and name not in had]
    copy_side_files(checkpoint, folder, {}, [*brought, *paper.files])
    for name in paper.files:
        with open(folder / name, "wb") as file:
            file.writelines(paper.pieces(f"{FILE_BLOB}{name}"))


def _notes(proof: Proof) -> list[str]:
    notes = []
    if proof.taken:
        notes.append(
            f"{proof.taken} tensors that the merge did not change are as in the merged checkpoint; the receipt has no "
            "digests of them (adaptr 0.1.0 kept none), so they were not compared with the base's"
        )
    if proof.other:
        notes.append(f"not as the base had them: {', '.join(proof.other)}")
    return notes
