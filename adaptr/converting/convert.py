"""Write an adapter in another format, and say what became of everything in it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import foreign
from adaptr.adapter import Adapter
from adaptr.errors import LossyConversion, phrases
from adaptr.errors.called import called
from adaptr.files import file_named, require_file, require_folder
from adaptr.foreign import words
from adaptr.format.finite import require_finite
from adaptr.format.io import public_part, write
from adaptr.report import Report
from adaptr.sources.given import Given, one
from adaptr.sources.naming import of_opened
from adaptr.sources.open import Opened, open_adapter, placed, reads
from adaptr.sources.resolve import Place, grounded

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ConvertReport(Report):
    """What a conversion did.

    `kept`: tensors whose key is the same; `renamed`: the others, (old key, new key); `lost`: what has no place.
    `unplaced`: whether targets are numbered layers, because the source names no modules and no base was given.
    `beside`: files in the source's folder with other weights, which are left out. `notes`: what those who read the
    output have to know.
    """

    source: str
    source_format: str
    out: str
    format: str
    method: str
    targets: int
    tensors: int
    kept: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    lost: tuple[str, ...]
    unplaced: bool
    digest: str
    beside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        found = dataclasses.asdict(self)
        return {name: value for name, value in found.items() if value or name not in ("beside", "notes")}


def convert(
    source: Given,
    out: str | os.PathLike[str],
    to: str = "adaptr",
    lossy: bool = False,
    force: bool = False,
    base: nn.Module | Place | None = None,
) -> ConvertReport:
    """Write the adapter at `source` to `out` in the format `to`, and report what was kept, renamed and lost. The same
    input gives the same bytes.

    Another tool's format gets the names of the base's live model (`exporting`). Raises `OutputExists` unless `force`,
    `LossyConversion` unless `lossy`, `NonFinite` for NaN and infinity, and what `exported` does.
    """
    what = one(source)
    format_of = None if to == foreign.OWN else foreign.get(to)
    out = placed_as(format_of, out, force, reads(what, base))
    base = grounded(base)
    found = open_adapter(what, base, tell=False)
    require_finite(found.adapter, found.given)
    unread = _unread(found, lossy)
    adapter = public_part(found.adapter)
    if found.format != to or to != foreign.OWN:  # else it is a copy, and comes from where it came from
        adapter = adapter.replace(lineage=_lineage(found, to, lossy))
    if format_of is None:
        written = foreign.Written(write(adapter, out, force), {key: key for key in adapter.tensors})
    else:
        from adaptr.converting.exporting import exported

        adapter = exported(adapter, base)
        adapter = adapter if base is None else format_of.based(adapter, base)
        written = format_of.write(adapter, out, lossy, force)
    return _report(found, adapter, out, to, dataclasses.replace(written, lost=(*written.lost, *unread)))


def placed_as(format_of: foreign.Format | None, out: str | os.PathLike[str], force: bool, inputs: list[Path]) -> Path:
    """Where an adapter is written: a file, or the folder of another tool's format. Raises `OutputExists`, and
    `UsageError` for a file that is called as a folder.
    """
    if format_of is None:
        return placed(out, force, inputs)
    place = Path(out) if format_of.folder else file_named(out, f"an adapter of {format_of.tool}")
    (require_folder if format_of.folder else require_file)(place, force, inputs)
    return place


def _lineage(found: Opened, to: str, lossy: bool) -> dict[str, Any]:
    """Where the output comes from."""
    return {"operation": "convert", "arguments": {"to": to, "lossy": lossy}, "parents": [of_opened(found)]}


def _unkept(found: Opened) -> tuple[str, ...]:
    """What lies beside the source and is neither in the adapter nor can be."""
    if found.file is None or found.format == foreign.OWN:
        return ()
    return foreign.get(found.format).unkept(found.file)


def _unread(found: Opened, lossy: bool) -> tuple[str, ...]:
    """The learned words that are in the source too. Raises `LossyConversion` unless `lossy` where there is any."""
    names = () if found.file is None or found.format == foreign.OWN else words.inside(found.file)
    if names and not lossy:
        raise LossyConversion(
            f"`{found.given}` holds {phrases.listed(names)} too, which is no part of an adapter",
            hint="`--lossy` writes it without",
        )
    return names


def _traced(adapter: Adapter, names: Mapping[str, str]) -> list[tuple[str, str]]:
    """(key in the source, key in the output). One tensor can become several, and several one."""
    came: Mapping[str, str] = getattr(adapter.tensors, "sources", {})
    return sorted({(came.get(key, key), name) for key, name in names.items()})


def _report(found: Opened, adapter: Adapter, out: Path, to: str, written: foreign.Written) -> ConvertReport:
    names = _traced(adapter, written.renamed)
    return ConvertReport(
        source=called(found.file or found.given),
        source_format=found.format,
        out=str(out),
        format=to,
        method=adapter.method,
        targets=len(adapter.all_targets),
        tensors=len(adapter.tensors),
        kept=tuple(old for old, new in names if old == new),
        renamed=tuple((old, new) for old, new in names if old != new),
        lost=(*written.lost, *_unkept(found)),
        unplaced="attention.0" in adapter.targets,
        digest=foreign.digest(to, written.file),
        beside=found.beside,
        notes=written.notes,
    )
