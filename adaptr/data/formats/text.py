"""Plain text: a paragraph is a record, `text`; in a file without empty lines, a line is."""

from __future__ import annotations

from collections.abc import Iterator

from adaptr.data.format import DataFormat, Row, Rows
from adaptr.data.source import Source


class Text(DataFormat):
    name = "text"
    suffixes = ("txt", "text", "md")

    def rows(self, source: Source) -> Rows:
        lines = source.text().replace("\r\n", "\n").split("\n")
        paragraphs = list(_paragraphs(lines))
        if len(paragraphs) > 1:
            return Rows(iter(paragraphs), ("a paragraph is a record: lines up to an empty one",))
        only = ((n, {"text": line}) for n, line in enumerate(lines, 1) if line.strip())
        return Rows(only, ("a line is a record",))


def _paragraphs(lines: list[str]) -> Iterator[Row]:
    start = 0
    gathered: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        if line.strip():
            start = start if gathered else number
            gathered.append(line)
        elif gathered:
            yield start, {"text": "\n".join(gathered)}
            gathered = []
