"""Data as people give it, read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from adaptr.data.columns import renamed
from adaptr.data.format import Row, by_name, of
from adaptr.data.records import Data, Place, Record
from adaptr.data.source import STDIN, Source, source
from adaptr.errors import DataError

#: What is read of one file; more is no file for one machine's memory.
MAX_RECORDS = 20_000_000
EMPTY: Mapping[str, str] = {}


def read(given: str | Path, columns: Mapping[str, str] = EMPTY, format: str = "") -> Data:
    """All records of a file, a folder, or standard input (`-`, JSON lines unless `format` says otherwise).

    `columns`: what the file calls a column, by the name that the task has for it: `{"prompt": "question"}`. Raises
    `DataError` or `BadRecord` with file, line and reason, `InputError` where there is no such file.
    """
    given = str(given)
    found = source(given)
    reader = by_name(format or "jsonl") if format or given == STDIN else of(given)
    with found.stream:
        rows = reader.rows(found)
        records = [Record(values, place) for place, values in renamed(_placed(found, rows.rows), columns)]
        digest = found.digest
    if not records:
        raise DataError(f"{found.called}: there is no record in it")
    return Data(records, digest, given, rows.said)


def _placed(found: Source, rows: Iterator[Row]) -> Iterator[tuple[Place, Mapping[str, object]]]:
    for count, (line, values) in enumerate(rows):
        if count == MAX_RECORDS:
            raise DataError(f"{found.called}: it has more than {MAX_RECORDS} records", hint="split it")
        yield Place(found.called, line), values
