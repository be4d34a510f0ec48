"""TSV: names of columns in the first line, cells between tabs; a quote is a quote, as in GLUE's files."""

from __future__ import annotations

from adaptr.data.format import DataFormat, Rows
from adaptr.data.formats.csv import table
from adaptr.data.source import Source


class Tsv(DataFormat):
    name = "tsv"
    suffixes = ("tsv", "tab")

    def rows(self, source: Source) -> Rows:
        lines = ((number, line.rstrip("\r\n")) for number, line in source.lines())
        return Rows(table(source.called, ((number, line.split("\t")) for number, line in lines if line.strip())))
