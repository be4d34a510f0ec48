"""An adapter that a pool knows by name, and whether its files are still those that were looked at."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptr.adapter import Adapter
from adaptr.foreign.seen import CONFIG
from adaptr.sources.resolve import Source


@dataclass(frozen=True)
class Registered:
    """A registered adapter. `stamp`: of its files when they were looked at last, () for one in memory."""

    source: Adapter | Source
    version: int
    stamp: tuple[Any, ...]

    @property
    def changed(self) -> bool:
        """Whether its files are others by now."""
        return stamp_of(self.source) != self.stamp


def stamp_of(source: Adapter | Source) -> tuple[Any, ...]:
    """What changes when a file, or one in a folder of an adapter, is replaced or written over; () if there is none."""
    if isinstance(source, Adapter):
        return ()
    path = source.path
    try:
        files = [path, *(f for f in sorted(path.iterdir()) if _tells(f))] if path.is_dir() else [path]
        return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in map(os.stat, files))
    except OSError:
        return ()


def _tells(file: Path) -> bool:
    return file.name == CONFIG or file.suffix == ".safetensors"
