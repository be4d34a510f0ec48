"""What an adapter is, from headers alone: neither weights nor torch nor the base are loaded, except for a `.bin`."""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import WHOLE, Adapter, Base
from adaptr.adapter.dequantize import BESIDE
from adaptr.adapter.packed import suffix_of
from adaptr.artifacts.bases import BaseInspection, describe
from adaptr.diffing.sides import is_checkpoint
from adaptr.errors import ConfigMissing, UsageError
from adaptr.format import digest, gguf
from adaptr.format.finite import nonfinite
from adaptr.format.header import Entry
from adaptr.format.io import open_tensors
from adaptr.report import Report
from adaptr.sources.given import Given, one
from adaptr.sources.open import Opened, open_adapter
from adaptr.sources.resolve import Place, grounded, resolve

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Alike:
    """Targets alike. `rank`: None for methods that have none."""

    kind: str
    count: int
    rank: int | None


@dataclass(frozen=True)
class Inspection(Report):
    """An adapter as its file describes it.

    `trained`: numbers of the method's own tensors; `replaced`: whole parameters of the base; `nbytes`: of all tensors.
    `file_digest`: of the file that holds the tensors, or of all where they are in several, as `size` is.
    `weights_digest`: the adapter's identity, the same in every format, "" where the base is needed to know it.
    `nonfinite`: tensors with NaN or infinity, None if nobody looked. `beside`: files in its folder with other weights.
    `metadata`: what the tool that wrote it put into its header.
    """

    source: str
    format: str
    file: str
    size: int
    name: str
    release: str
    summary: str
    license: str
    tags: tuple[str, ...]
    method: str
    version: int
    config: Mapping[str, Any]
    parts: Mapping[str, str]
    base: Base
    targets: tuple[Alike, ...]
    tensors: int
    trained: int
    replaced: tuple[str, ...]
    nbytes: int
    dtypes: Mapping[str, int]
    quantization: Mapping[str, Any]
    lineage: Mapping[str, Any]
    training: Mapping[str, Any]
    file_digest: str
    weights_digest: str
    nonfinite: tuple[str, ...] | None
    beside: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        found = dataclasses.asdict(self)
        return {name: value for name, value in found.items() if value or name not in {"beside", "metadata"}}


def inspect(source: Given, finite: bool = False, base: nn.Module | Place | None = None) -> Inspection | BaseInspection:
    """What the adapter at `source` is, from its header alone; `finite` also looks for NaN and infinity in its values.
    `base`: as for `load`. An adapter in memory has no file. Of a base model how its weights lie, and what is merged
    into them. Raises what `load` does for what is neither, and `UsageError` for `finite` of a base.
    """
    if isinstance(source, str | os.PathLike) and is_checkpoint(resolve(source).path):
        if finite:
            raise UsageError("`finite` is for adapters", hint="`adaptr diff` reads every value of two checkpoints")
        return describe(source)
    found = open_adapter(one(source), grounded(base), tell=False)
    adapter = found.adapter
    entries = _entries(found)
    own = {"name", "release", "summary", "license", "tags", "method", "version", "config", "base", "quantization"}
    return Inspection(
        source=found.given,
        format=found.format,
        file="" if found.file is None else found.file.name,
        size=sum(one.stat().st_size for one in found.files),
        parts={name: part.method for name, part in adapter.parts.items()},
        targets=_groups(adapter),
        tensors=len(adapter.tensors),
        trained=_trained(adapter),
        replaced=tuple(key.rpartition(":")[0] for key in adapter.tensors if key.endswith(WHOLE)),
        nbytes=sum(entry.nbytes for entry in entries.values()),
        dtypes=dict(sorted(Counter(entry.dtype for entry in entries.values()).items())),
        lineage=adapter.lineage,
        training=adapter.training,
        file_digest=found.digest,
        weights_digest=_identity(adapter),
        nonfinite=tuple(nonfinite(adapter.tensors)) if finite else None,
        beside=found.beside,
        metadata=_metadata(adapter),
        **{name: getattr(adapter, name) for name in own},
    )


def _metadata(adapter: Adapter) -> dict[str, str]:
    """What the headers of the tools say that the adapter came from."""
    kept = (said.get("metadata") for said in adapter.foreign.values() if isinstance(said, Mapping))
    return {name: str(text) for said in kept if isinstance(said, Mapping) for name, text in said.items()}


def _identity(adapter: Adapter) -> str:
    """The weights' digest, "" where only the base says in which order they are."""
    try:
        return digest.of_adapter(adapter)
    except ConfigMissing:
        return ""


def _headed(file: Path) -> bool:
    with open(file, "rb") as stream:
        return stream.read(9)[8:] == b"{"


def _entries(found: Opened) -> Mapping[str, Entry]:
    """Dtype, shape and size of what is stored."""
    if found.file is not None and _headed(found.file):
        return open_tensors(found.file).header.entries
    if found.file is not None and gguf.is_gguf(found.file):
        return gguf.open_header(found.file).entries
    from adaptr.format.io import dtype_shape

    tensors = found.adapter.tensors
    return {key: Entry(*dtype_shape(tensors[key]), 0, tensors[key].nbytes) for key in tensors}


def _groups(adapter: Adapter) -> tuple[Alike, ...]:
    counted = Counter((target.kind, target.config.get("r")) for _, target in adapter.all_targets)
    order = sorted(counted, key=lambda group: (group[0], group[1] or 0))
    return tuple(Alike(kind, counted[kind, rank], rank) for kind, rank in order)


def _trained(adapter: Adapter) -> int:
    """The numbers of the method's own tensors, what is beside quantised ones left out."""
    keys = [key for key in adapter.tensors if not key.endswith((*WHOLE, *BESIDE))]
    shape = getattr(adapter.tensors, "shape", lambda key: adapter.tensors[key].shape)
    return sum(math.prod(shape(key)) * (2 if suffix_of(key, adapter.tensors) else 1) for key in keys)
