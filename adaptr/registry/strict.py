"""Safetensors files from elsewhere: stricter than the library, which takes what other readers read differently."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import AdaptrError, EntryMalformed, HeaderNotJson, HeaderTooLarge, phrases, shown
from adaptr.format.io import open_tensors
from adaptr.untrusted import opened

if TYPE_CHECKING:
    from adaptr.format.header import Header

#: The longest header of a file in an artifact, in bytes, and the most tensors: what a model's shard needs many times.
MAX_HEADER = 16 << 20
MAX_TENSORS = 1 << 16


def header(name: str, file: Path) -> Header:
    """The header of the safetensors file `file`, which is called `name` in its artifact.

    Raises a `FormatError` that names it: for all that `adaptr.format.header` refuses (duplicate keys, holes, overlaps,
    trailing bytes, unknown dtypes), and for headers or names of tensors that no model needs.
    """
    try:
        _require_small(file)
        found = open_tensors(file).header
        _require_plain(found)
    except AdaptrError as error:
        raise error.at(name) from None
    return found


def _require_small(file: Path) -> None:
    with opened(file) as found:
        first = found.read(9)
    length = struct.unpack("<Q", first[:8])[0] if len(first) == 9 else 0
    if length > MAX_HEADER:
        raise HeaderTooLarge(
            "the header", verb="has", got=f"{length} bytes, as it says", want=f"at most {MAX_HEADER} in an artifact"
        )
    if len(first) == 9 and first[8:] != b"{":
        raise HeaderNotJson("the header does not start with `{`", hint=phrases.FETCH)


def _require_plain(found: Header) -> None:
    if len(found.entries) > MAX_TENSORS:
        raise HeaderTooLarge(
            "it", verb="has", got=f"{len(found.entries)} tensors", want=f"at most {MAX_TENSORS} in an artifact"
        )
    for key in found.entries:
        if not key or not key.isprintable() or "\\" in key or {"", ".."} & set(key.split("/")):
            raise EntryMalformed(
                f"`{shown(key)}` can't be the name of a tensor in an artifact",
                want="printable parts between `/`, none of them `..`",
            )
