"""Is it the base that the adapter was trained on? Told by samples of its weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from adaptr.adapter import MATRIX_KINDS, Adapter, Target
from adaptr.checkpoint.names import Names, Place
from adaptr.checkpoint.open import Checkpoint
from adaptr.errors import ContentMismatch
from adaptr.format.io import TORCH_NAMES
from adaptr.ops.change import FLOATS
from adaptr.ops.tied import weight_place


def check_content(checkpoint: Checkpoint, names: Names, adapter: Adapter) -> None:
    wanted = adapter.base.content
    found = content_of(names, adapter.targets) if wanted and not adapter.base.quantization else ""
    if found and found != wanted:
        raise ContentMismatch(
            f"the weights of `{checkpoint.root.name}` at the targets of `{adapter.label}` are not those it was trained "
            f"on ({adapter.base.id or 'unnamed base'}); use the right revision of the base"
        )


def content_of(names: Names, targets: Mapping[str, Target]) -> str:
    """The same digest over samples as of a live model (`adaptr.host.identity`); "" where there is nothing to read."""
    digest, seen = hashlib.sha256(), False
    for path in sorted(targets):
        place = _place_of_weight(names, targets[path])
        if place is not None and place.stored.entry.dtype in FLOATS:
            digest.update(path.encode() + b"\0" + _sample(place))
            seen = True
    return "sha256:" + digest.hexdigest() if seen else ""


def _place_of_weight(names: Names, target: Target) -> Place | None:
    """Where the weight of a target's module is, for modules that have one."""
    if target.kind in MATRIX_KINDS:
        return weight_place(names, target, "both")
    stored = names.find(f"{target.path}.weight")
    return Place(stored, slice(0, stored.entry.shape[0])) if stored is not None else None


def _sample(place: Place) -> bytes:
    import torch

    from adaptr.host.identity import SAMPLES, value_bytes

    entry, dtype = place.stored.entry, getattr(torch, TORCH_NAMES[place.stored.entry.dtype])
    per_row = entry.numel // entry.shape[0]
    first, numel = place.rows.start * per_row, (place.rows.stop - place.rows.start) * per_row
    raw = bytearray()
    with open(place.stored.shard.path, "rb") as file:
        for i in range(0, numel, max(numel // SAMPLES, 1))[:SAMPLES]:
            raw += os.pread(file.fileno(), dtype.itemsize, place.stored.offset + (first + i) * dtype.itemsize)
    return value_bytes(torch.frombuffer(raw, dtype=dtype))
