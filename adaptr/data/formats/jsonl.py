"""JSON lines: an object a line; empty lines are passed over."""

from __future__ import annotations

from collections.abc import Iterator

from adaptr.data.format import DataFormat, Row, Rows
from adaptr.data.source import Source
from adaptr.errors import BadRecord
from adaptr.untrusted import json_object


class JsonLines(DataFormat):
    name = "jsonl"
    suffixes = ("jsonl", "ndjson", "jsonlines")

    def rows(self, source: Source) -> Rows:
        return Rows(objects(source.called, source.lines()))


def objects(called: str, lines: Iterator[tuple[int, str]]) -> Iterator[Row]:
    """The object on each line. Raises `BadRecord`."""
    for number, line in lines:
        if line.strip():
            yield number, json_object(line.encode(), f"{called}:{number}: the line", BadRecord)
