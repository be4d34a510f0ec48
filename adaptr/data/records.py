"""A record and its place; data as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from adaptr.errors import BadRecord, shown


class Place(NamedTuple):
    """Where a record stands: the file as it was given, and the line, or the number of the record, from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def bad(self, reason: str, *, got: object = None, want: str = "", hint: str = "") -> BadRecord:
        """The error that says what is wrong here: `file:line: reason`."""
        return BadRecord(f"{self}: {reason}", got=got, want=want, hint=hint)


class Record(NamedTuple):
    """One thing to learn from or to be asked: its columns by name."""

    values: Mapping[str, object]
    place: Place

    def text(self, column: str) -> str:
        """The text in a column. Raises `BadRecord` where it is absent or something else."""
        found = self.values.get(column)
        if isinstance(found, str):
            return found
        if found is None:
            raise lacking(self, column)
        raise self.place.bad(f"`{column}`", got=shown(found), want="a text")


def lacking(record: Record, column: str) -> BadRecord:
    """The error for a column that says nothing."""
    if column in record.values:
        said = "null" if record.values[column] is None else "empty"
        return record.place.bad(f"`{column}` is {said}", hint="give it a text, or leave the record out")
    return record.place.bad(f"`{column}` is missing", hint=f"the record has {named(record.values)}")


@dataclass(frozen=True)
class Data:
    """Records in their order. `digest`: of the bytes they came from, `sha256:...`; `given`: what they were called.

    `said`: how the file was understood, a sentence each, for people: "a paragraph is a record".
    """

    records: Sequence[Record]
    digest: str
    given: str
    said: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of columns that some record has, in the order of their first appearance."""
        return tuple(dict.fromkeys(name for record in self.records for name in record.values))


def named(names: Mapping[str, object] | Sequence[str], most: int = 12) -> str:
    """Names as they stand in a message, no more than a few of them."""
    found = [f"`{shown(name)}`" for name in names]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more or "no columns"
