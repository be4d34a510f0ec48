"""Is it the base that the adapter was trained on? Told by samples of its weights."""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.adapter import Adapter, Target
from adaptr.adapter.paths import paths_of
from adaptr.adapter.sampled import SAMPLES, as_bf16, digest_of
from adaptr.bulk.change import FLOATS
from adaptr.checkpoint.apart import pieces
from adaptr.checkpoint.names import Names, Place
from adaptr.checkpoint.open import Checkpoint, open_checkpoint
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.stored import Stored
from adaptr.errors import AdaptrError
from adaptr.errors.called import called as called_as
from adaptr.models.ties import weight_place

if TYPE_CHECKING:
    from torch import nn


def check_content(checkpoint: Checkpoint, names: Names, adapter: Adapter) -> bool:
    """Find an adapter's places in a checkpoint, and hold its weights there against the adapter's digest of them, which
    has names in it: those that the adapter has, or those that the model has. Whether there was anything to compare.

    Raises `ContentMismatch`, and `TargetAmbiguous` for a name that fits two places.
    """
    names.meet(adapter)
    wanted = adapter.base.content
    found = content_in_files(names, adapter.targets) if wanted else ""
    if (
        found
        and found != wanted
        and wanted != content_in_files(names, adapter.targets, names.renamings(paths_of(adapter)))
    ):
        from adaptr.host.identity import other_weights

        raise other_weights(adapter, f"`{Path(called_as(checkpoint.root)).name}`", "use the right revision of the base")
    return bool(found)


def content_in_files(names: Names, targets: Mapping[str, Target], called: Mapping[str, str] | None = None) -> str:
    """`content_of` a live model (`adaptr.host.identity`), read from its files; "" where there is nothing to read, or
    some of it is packed. `called`: what a target is called in the digest, where that is not its path.
    """
    places = {path: found for path, target in targets.items() if (found := _places_of_weight(names, target))}
    if not all(_is_float(place) for found in places.values() for place in found):
        return ""
    return digest_of({(called or {}).get(path, path): _sample(found) for path, found in places.items()})


def knowing(adapter: Adapter, model: nn.Module) -> Adapter:
    """`adapter` with the digest of the floats that a base was packed from when it was loaded: those of the folder that
    it came from, which another base of the same shapes has not. As it is where there are none.
    """
    from adaptr.host.identity import quantization_of

    folder = Path(getattr(getattr(model, "config", None), "_name_or_path", "") or "")
    if adapter.base.content or not quantization_of(model) or not (folder / "config.json").is_file():
        return adapter
    try:
        names = Names(open_checkpoint(folder))
        names.meet(adapter)
        found = content_in_files(names, adapter.targets)
    except AdaptrError:
        return adapter
    return adapter.replace(base=replace(adapter.base, content=found))


def _is_float(place: Place) -> bool:
    return place.stored.entry.dtype in FLOATS and not isinstance(place.stored, Packed)


def _places_of_weight(names: Names, target: Target) -> list[Place]:
    """Where the weight of a target's module is, for modules that have one, in its order if it is in several tensors."""
    apart = pieces(names, target)
    if apart:
        return [place for piece in apart for place in piece.places]
    if target.is_matrix:
        return [weight_place(names, target)]
    stored = names.find(f"{target.path}.weight")
    return [_whole(stored)] if stored is not None else []


def _whole(stored: Stored) -> Place:
    return Place(stored, slice(0, stored.entry.shape[0]))


def _sample(places: list[Place]) -> bytes:
    entry = places[0].stored.entry
    size = entry.nbytes // entry.numel
    per_row = entry.numel // entry.shape[0]
    sizes = [(place.rows.stop - place.rows.start) * per_row for place in places]
    ends, numel = list(itertools.accumulate(sizes)), sum(sizes)
    raw = bytearray()
    with ExitStack() as opened:
        files = [opened.enter_context(open(place.stored.shard.path, "rb")) for place in places]
        for i in range(0, numel, max(numel // SAMPLES, 1))[:SAMPLES]:
            at = bisect.bisect_right(ends, i)
            place, inside = places[at], i - ends[at] + sizes[at]
            start = place.rows.start * per_row + inside
            raw += os.pread(files[at].fileno(), size, place.stored.offset + start * size)
    return as_bf16(raw, entry.dtype)
