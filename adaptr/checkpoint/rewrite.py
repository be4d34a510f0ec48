"""Write a checkpoint that is the base but for some tensors.

Shards keep their names, their order and, where no tensor is added or resized, their header byte for byte. Ranges that
nobody touches are copied by the kernel; what fills a changed tensor is the caller's.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.stored import Shard
from adaptr.checkpoint.stream import copy_range, write_all
from adaptr.format.header import DTYPES, Entry


@dataclass(frozen=True)
class NewTensor:
    """A tensor of the output that is new or has another shape: what it is, and in which shard."""

    dtype: str
    shape: tuple[int, ...]
    shard: Shard

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype] // 8


@dataclass(frozen=True)
class Slot:
    """Where the bytes of a changed tensor go: a file and an offset in it."""

    name: str
    entry: Entry
    target: int
    offset: int


@dataclass(frozen=True)
class Layout:
    """The header of an output shard, as bytes and as what they say. `behind`: zeros after the last tensor."""

    raw: bytes
    entries: Mapping[str, Entry]
    behind: int = 0

    @property
    def data(self) -> int:
        return len(self.raw)

    @property
    def end(self) -> int:
        return self.data + max((entry.stop for entry in self.entries.values()), default=0) + self.behind


def layout(
    shard: Shard, new: Mapping[str, NewTensor], gone: Collection[str] = (), metadata: Mapping[str, str] | None = None
) -> Layout:
    """The output's header: the base's own where nothing changed, else in the same order with the new tensors behind.

    `gone`: tensors that it does not have. `metadata`: what it has for its own.
    """
    mine = {name: tensor for name, tensor in new.items() if tensor.shard is shard}
    metadata = shard.header.metadata if metadata is None else metadata
    if not mine and metadata == shard.header.metadata and not any(name in gone for name in shard.header.entries):
        return Layout(shard.raw, shard.header.entries)
    order = sorted(shard.header.entries, key=lambda name: shard.header.entries[name].start)
    order = [name for name in order if name not in gone]
    entries: dict[str, Entry] = {}
    at = 0
    for name in [*order, *(name for name in sorted(mine) if name not in shard.header.entries)]:
        old = shard.header.entries.get(name)
        dtype, shape = (mine[name].dtype, mine[name].shape) if name in mine else (old.dtype, old.shape)  # type: ignore[union-attr]
        size = mine[name].nbytes if name in mine else old.nbytes  # type: ignore[union-attr]
        entries[name] = Entry(dtype, shape, at, at + size)
        at += size
    return Layout(_header_bytes(shard, entries, metadata), entries)


def _header_bytes(shard: Shard, entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    document: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, entry in entries.items():
        offsets = [entry.start, entry.stop]
        said = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": offsets}
        document[name.removeprefix(shard.prefix)] = said
    raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw


def rewrite(
    layouts: Iterable[tuple[Shard, Layout]],
    folder: Path,
    changed: frozenset[str],
    fill: Callable[[list[Slot]], None],
    copied: Callable[[int], None],
) -> None:
    """Write shards into `folder`: each base shard in its new layout.

    `fill` gets the slots of the changed tensors in one call, all files open. The rest is copied beside it, and `copied`
    told of the bytes, by another thread.
    """
    with ExitStack() as files:
        slots: list[Slot] = []
        runs: list[_Run] = []
        for shard, plan in layouts:
            source = files.enter_context(open(shard.path, "rb")).fileno()
            out = folder / shard.name
            out.parent.mkdir(exist_ok=True)
            target = files.enter_context(open(out, "w+b")).fileno()
            slots += _start_shard(plan, target, changed)
            runs += _runs(shard, plan, source, target, changed)
        with ThreadPoolExecutor(1) as beside:
            copying = [beside.submit(run.copy, copied) for run in runs]
            try:
                fill(slots)
                for run in copying:
                    run.result()
            except BaseException:
                beside.shutdown(cancel_futures=True)
                raise


def _start_shard(plan: Layout, target: int, changed: frozenset[str]) -> list[Slot]:
    """The header of a shard, and the slots of its changed tensors."""
    os.ftruncate(target, plan.end)
    write_all(target, 0, plan.raw)
    return [Slot(name, entry, target, plan.data + entry.start) for name, entry in _ordered(plan) if name in changed]


def _runs(shard: Shard, plan: Layout, source: int, target: int, changed: frozenset[str]) -> list[_Run]:
    """The tensors of a shard that stay."""
    runs: list[_Run] = []
    for name, entry in _ordered(plan):
        if name not in changed:
            start, at = shard.header.data + shard.header.entries[name].start, plan.data + entry.start
            if not runs or (runs[-1].start + runs[-1].count, runs[-1].at + runs[-1].count) != (start, at):
                runs.append(_Run(source, target, start, at))
            runs[-1].count += entry.nbytes
    return runs


def _ordered(plan: Layout) -> list[tuple[str, Entry]]:
    return sorted(plan.entries.items(), key=lambda item: item[1].start)


@dataclass
class _Run:
    """Neighbouring ranges, copied in one call."""

    source: int
    target: int
    start: int
    at: int
    count: int = 0

    def copy(self, copied: Callable[[int], None]) -> None:
        copy_range(self.source, self.start, self.target, self.at, self.count)
        copied(self.count)


def copy_side_files(
    checkpoint: Checkpoint, folder: Path, instead: Mapping[str, bytes], but: Collection[str] = ()
) -> None:
    """Carry over configuration, tokenizer and the rest; `instead` gives other contents for some, `but` names those that
    stay behind.
    """
    for name, path in checkpoint.side_files().items():
        if name not in instead and name not in but:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, folder / name)
    for name, content in instead.items():
        (folder / name).write_bytes(content)


def new_index(checkpoint: Checkpoint, new: Mapping[str, NewTensor], gone: Collection[str] = ()) -> bytes:
    """The shard index with the new tensors in it, and without those that are gone."""
    document = json.loads(json.dumps(checkpoint.index))
    for name in gone:
        document["weight_map"].pop(name, None)
    for name, tensor in sorted(new.items()):
        document["weight_map"][name] = tensor.shard.name
    sizes = {name: stored.entry.nbytes for name, stored in checkpoint.lying.items() if name not in gone}
    sizes.update({name: tensor.nbytes for name, tensor in new.items()})
    document.setdefault("metadata", {})["total_size"] = sum(sizes.values())
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
