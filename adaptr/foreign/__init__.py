"""Adapter formats of other tools: what a path holds, and reading and writing it.

A format is a file in `adaptr_formats`, or a class given by the entry-point group `adaptr.formats`: a `Format` with its
`marks`, from which follow what a path is, what can be chosen and what is packed. Tools that are only recognised so far
are files in `adaptr_formats/_known`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.foreign.format import Format, Marks, Written
from adaptr.foreign.formats import OWN, choices, claimed, get, names, packable
from adaptr.foreign.supplied import NOTHING, Supplied

if TYPE_CHECKING:
    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel

__all__ = [
    "NOTHING", "OWN", "Format", "Marks", "Supplied", "Written", "choices", "claimed", "digest", "files", "get", "names",
    "of", "packable", "require",
]  # fmt: skip


def of(path: Path) -> Format:
    """The format that `path` is in. Raises what `detect.refusal` says if none reads it, and `FormatAmbiguous`."""
    from adaptr.foreign import detect

    found = claimed(path)
    if found is None:
        raise detect.refusal(path)
    return found[0]


def files(form: str, file: Path) -> tuple[Path, ...]:
    """The files of an adapter in a format, whose tensors are in `file`, or begin there."""
    return (file,) if form == OWN else get(form).files(file)


def digest(form: str, file: Path) -> str:
    """`sha256:` of that file, or of all of them where they are several."""
    from adaptr.format import digest as digests

    every = files(form, file)
    return digests.of_file(file) if every == (file,) else digests.of_files(every, file.parent)


def require(adapter: Adapter, base: BaseModel | None) -> None:
    """Raises `TensorAbsent` where an adapter of a foreign file lacks what its configuration promises for `base`.

    `base`: a folder, a live model, or None. What was changed since it was read promises nothing.
    """
    from adaptr.foreign.formats import SORT

    for name in adapter.foreign if base is not None else ():
        if SORT.has(name):
            get(name).require(adapter, base)
