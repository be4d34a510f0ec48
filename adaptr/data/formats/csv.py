"""CSV: names of columns in the first line, commas, quotes around what holds commas, quotes or ends of lines."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import chain

from adaptr.data.format import DataFormat, Row, Rows
from adaptr.data.records import Place
from adaptr.data.source import Source
from adaptr.errors import DataError, shown
from adaptr.untrusted import MAX_DOCUMENT


class Csv(DataFormat):
    name = "csv"
    suffixes = ("csv",)

    def rows(self, source: Source) -> Rows:
        return Rows(table(source.called, _split(source)))


def _split(source: Source) -> Iterator[tuple[int, list[str]]]:
    """The line that each row begins on, and its cells. Where the first line has spaces behind its commas, they are
    no part of the cells: a quote behind one is a quote around a cell.
    """
    before = csv.field_size_limit(MAX_DOCUMENT)
    lines = (line for _, line in source.lines())
    start = 1
    try:
        first = next(lines, "")
        spaced = any(cell[:1].isspace() for cells in csv.reader([first]) for cell in cells[1:])
        reader = csv.reader(chain([first], lines), strict=True, skipinitialspace=spaced)
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise Place(source.called, start).bad(f"the row can't be read as CSV: {error}") from None
    finally:
        csv.field_size_limit(before)


def table(called: str, lines: Iterable[tuple[int, list[str]]]) -> Iterator[Row]:
    """Rows by the names in the first one. Raises `DataError` for names that are none, `BadRecord` for ragged rows."""
    names: list[str] = []
    for number, cells in lines:
        if not names:
            names = _named(called, number, cells)
        elif len(cells) != len(names):
            raise Place(called, number).bad(
                f"the row has {len(cells)} cells",
                want=f"{len(names)}, as the first line names ({', '.join(map(shown, names[:6]))})",
            )
        else:
            yield number, dict(zip(names, cells, strict=True))


def _named(called: str, number: int, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not all(names):
        raise DataError(
            f"{called}:{number}: column {names.index('') + 1} has no name", hint="name it in the first line"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{called}:{number}: the column `{shown(twice[0])}` is named twice",
            hint="give each column a name of its own",
        )
    return names
