"""`DataFormat`: how bytes become rows; and which format a file is of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar

from adaptr.data.source import Source
from adaptr.discovery import Sort
from adaptr.errors import DataError

#: The line, or the number of the row, from 1, and its columns.
Row = tuple[int, Mapping[str, object]]

FORMATS = Sort("data format", "adaptr.data.formats", "adaptr.data", "the docs", within=("[!_]*.py",))


@dataclass(frozen=True)
class Rows:
    """Rows as they come, and what there is to say of how they were found."""

    rows: Iterator[Row]
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opened:
    """Rows, what their place is called in messages, what gives the digest once they were read, and what is closed."""

    found: Rows
    called: str
    digest: Callable[[], str]
    close: Callable[[], None] = lambda: None


class DataFormat(ABC):
    """One file a format in `adaptr.data.formats`, or a class given by the entry point `adaptr.data`."""

    name: ClassVar[str]
    #: Ends of file names, without the dot.
    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def rows(self, source: Source) -> Rows:
        """The rows of a file. Raises `DataError` or `BadRecord` with line and reason."""


def by_name(name: str) -> DataFormat:
    found: DataFormat = FORMATS.load(name, DataFormat)
    return found


def of(given: str) -> DataFormat:
    """The format of a file, by the end of its name, `.gz` left aside. Raises `DataError` for one that nobody reads."""
    suffix = PurePath(given.removesuffix(".gz")).suffix[1:].lower()
    every = [by_name(name) for name in FORMATS.names()]
    for one in every:
        if suffix in one.suffixes:
            return one
    known = ", ".join(f".{end}" for one in every for end in one.suffixes)
    raise DataError(
        f"`{given}` is of no format that is read",
        want=f"a file that ends in {known}, or a folder",
        hint="save it as CSV, or as JSONL: an object a line",
    )
