"""Safetensors files of other tools: written byte for byte where nothing changes, with what adaptr knows beside."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from adaptr.errors import ForeignError, FormatError, phrases
from adaptr.foreign.same import Same, laid
from adaptr.format import canonical
from adaptr.format import header as headers
from adaptr.format import manifest as manifests
from adaptr.untrusted import json_object

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter

    class Sink(Protocol):
        """What bytes are written to."""

        def write(self, raw: bytes | bytearray | memoryview, /) -> object: ...


#: The entry of a file's metadata with what adaptr knows and the tool has no field for; the tool ignores it.
ABOUT = "adaptr.about"
#: What people say of an adapter.
_TOLD = ("name", "release", "summary", "license", "tags")
#: Schemes whose tensors are floats, as every tool reads them.
_FLOATS = (None, "fp16", "bf16")


def save(path: Path, tensors: Mapping[str, Tensor | Same], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. Entries of `metadata` that are empty are left out."""
    with open(path, "wb") as file:
        write(file, tensors, metadata)


def write(file: Sink, tensors: Mapping[str, Tensor | Same], metadata: Mapping[str, str]) -> None:
    """Write what a safetensors file holds: its header at once, then its data in pieces."""
    found = {key: laid(value) for key, value in tensors.items()}
    said = {key: value for key, value in metadata.items() if value}
    raw, header = headers.build({key: (dtype, shape) for key, (dtype, shape, _) in found.items()}, said)
    file.write(raw)
    for key in header.entries:
        for piece in found.pop(key)[2]:
            file.write(piece)


def plain(adapter: Adapter) -> Adapter:
    """`adapter` to be written as floats: what is only cast as it is stored, without its declared error."""
    return adapter.replace(quantization={}) if adapter.quantization.get("scheme") in _FLOATS else adapter


def lost(adapter: Adapter) -> list[str]:
    """What no tool has a place for that has floats alone and begins its training anew."""
    scheme = adapter.quantization.get("scheme")
    cast = [] if scheme in _FLOATS else [f"`{scheme}` tensors (they are written as floats)"]
    return [*cast, *(["the memory of its training, so that it would begin anew"] if adapter.memory else [])]


def untold(adapter: Adapter) -> list[str]:
    """What people said of it, for a file that has no place for words."""
    return [f"the {name}" for name in _TOLD if getattr(adapter, name)]


def about(adapter: Adapter) -> str:
    """What the entry `ABOUT` says of an adapter, "" for nothing."""
    base = {k: v for k, v in dataclasses.asdict(adapter.base).items() if v and k not in {"id", "revision", "ties"}}
    said = {
        **{name: getattr(adapter, name) for name in ("name", "release", "summary", "license", "lineage", "training")},
        "tags": list(adapter.tags),
        "base": base,
    }
    kept = {name: value for name, value in said.items() if value}
    return canonical.dumps(kept) if kept else ""


def told(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The fields of an adapter that the entry `ABOUT` says. Raises `ForeignError`."""
    what = f"the `{ABOUT}` entry of the file's metadata"
    said = json_object(metadata.get(ABOUT, "{}").encode(), what, ForeignError)
    try:
        return manifests.about(said)
    except FormatError as error:
        raise ForeignError(f"{what}: {error.fact}", hint=error.hint or phrases.AGAIN) from None
