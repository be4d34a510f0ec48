"""Open an adapter in whatever format it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptr import foreign
from adaptr.adapter import Adapter
from adaptr.errors import InputError
from adaptr.foreign import detect

NAME = "adapter.adaptr.safetensors"


@dataclass(frozen=True)
class Opened:
    """An adapter, the name of its format, and the file with its tensors."""

    adapter: Adapter
    format: str
    file: Path


def open_adapter(source: Path, base: Any = None) -> Opened:
    """The adapter at `source`: an adaptr file, a folder with one, or anything that a format plugin reads.

    `base`: a folder with a `config.json` or a live model, for what a file does not say. Raises `InputError` where there
    is nothing, a `ForeignError` that names what is there if it can't be read.
    """
    own = adaptr_file(source)
    if own is not None:
        from adaptr.format import digest, read
        from adaptr.format.io import open_tensors

        found = read(own)
        if any(part.digest for part in found.parts.values()):
            digest.require_parts(own, open_tensors(own).header, found.parts)
        return Opened(_placed(found, base), "adaptr", own)
    form = foreign.of(source)
    adapter = form.read(source, base)
    return Opened(adapter, form.name, Path(adapter.source))


def adaptr_file(source: Path) -> Path | None:
    """The adaptr file that `source` is or holds, or None. Raises `InputError` if a folder holds several."""
    if source.is_dir():
        found = sorted(source.glob("*.adaptr.safetensors"))
        if len(found) > 1:
            raise InputError(f"`{source}` holds {len(found)} adaptr files: name one, such as `{found[0]}`")
        return found[0] if found else None
    return source if detect.is_adaptr(source) else None


def _placed(adapter: Adapter, base: Any) -> Adapter:
    if base is None or not any(target.kind == "attention" for target in adapter.targets.values()):
        return adapter
    from adaptr.families.prompt import placed
    from adaptr.skeleton import skeleton

    return placed(skeleton(base), adapter)
