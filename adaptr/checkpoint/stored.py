"""Tensors of a checkpoint as they lie: in which file, and where in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adaptr.format.header import Entry, Header


@dataclass(frozen=True)
class Shard:
    """One safetensors file and its header, raw (with the length) and parsed.

    `name`: where it is in the checkpoint's folder. `prefix`: what stands before the names of its tensors in the
    checkpoint and not in the file, as the component of a pipeline does; `header` has it.
    """

    path: Path
    raw: bytes
    header: Header
    name: str
    prefix: str = ""


@dataclass(frozen=True)
class Stored:
    """One tensor of a checkpoint: where its bytes are."""

    name: str
    shard: Shard
    entry: Entry

    @property
    def offset(self) -> int:
        """The first byte in the file."""
        return self.shard.header.data + self.entry.start
