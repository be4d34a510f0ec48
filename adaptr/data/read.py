"""Data as people give it, read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from adaptr.data import arrow, hub
from adaptr.data.columns import renamed
from adaptr.data.format import Opened, by_name, of
from adaptr.data.records import Data, Place, Record
from adaptr.data.shapes import Placed, shaped
from adaptr.data.source import STDIN, source
from adaptr.errors import DataError

#: What is read of one file; more is no file for one machine's memory.
MAX_RECORDS = 20_000_000
EMPTY: Mapping[str, str] = {}


def read(given: str | Path, columns: Mapping[str, str] = EMPTY, format: str = "") -> Data:
    """All records of a file, a folder that `datasets` saved, a data set of the hub (`owner/name`), or standard input
    (`-`, JSON lines unless `format` says otherwise).

    `columns`: what the file calls a column, by the name that the task has for it: `{"prompt": "question"}`. Where the
    first record has a shape that many data sets have, all are read as such, and `said` names it. Raises `DataError` or
    `BadRecord` with file, line and reason, `InputError` where there is no such file, `MissingExtra`.
    """
    given = str(given)
    opened = _opened(given, format)
    with closing(opened):
        rows, shape = shaped(renamed(_placed(opened), columns))
        records = [Record(values, place) for place, values in rows]
        digest = opened.digest()
    if not records:
        raise DataError(f"{opened.called}: there is no record in it", hint="look whether it is the right file")
    return Data(records, digest, given, (*opened.found.said, *shape))


def _opened(given: str, format: str) -> Opened:
    if given != STDIN and Path(given).is_dir():
        return arrow.folder(Path(given))
    if hub.names(given):
        return hub.part(given)
    reader = by_name(format or "jsonl") if format or given == STDIN else of(given)
    found = source(given)
    return Opened(reader.rows(found), found.called, lambda: found.digest, found.close)


def _placed(opened: Opened) -> Iterator[Placed]:
    for count, (line, values) in enumerate(opened.found.rows):
        if count == MAX_RECORDS:
            raise DataError(f"{opened.called}: it has more than {MAX_RECORDS} records", hint="split it")
        yield Place(opened.called, line), values
