"""A record and its place; data as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Place(NamedTuple):
    """Where a record stands: the file as it was given, and the line, or the number of the record, from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Record(NamedTuple):
    """One thing to learn from or to be asked: its columns by name."""

    values: Mapping[str, object]
    place: Place


@dataclass(frozen=True)
class Data:
    """Records in their order. `digest`: of the bytes they came from, `sha256:...`; `given`: what they were called."""

    records: Sequence[Record]
    digest: str
    given: str
