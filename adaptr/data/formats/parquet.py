"""Parquet, through pyarrow."""

from __future__ import annotations

import io
from collections.abc import Iterator

from adaptr.data.arrow import arrow, named_classes
from adaptr.data.format import DataFormat, Row, Rows
from adaptr.data.source import Source
from adaptr.errors import DataError, phrases, shown


class Parquet(DataFormat):
    name = "parquet"
    suffixes = ("parquet", "pq")

    def rows(self, source: Source) -> Rows:
        return Rows(_rows(source))


def _rows(source: Source) -> Iterator[Row]:
    pyarrow = arrow()
    from pyarrow import parquet

    number = 0
    try:
        file = parquet.ParquetFile(io.BytesIO(source.whole()))
        names = named_classes(file.schema_arrow)
        for batch in file.iter_batches(1024):
            for row in batch.to_pylist():
                number += 1
                yield number, names(row)
    except pyarrow.ArrowException as error:
        raise DataError(
            f"{source.called}: it can't be read as Parquet: {shown(str(error), 200)}", hint=phrases.FETCH
        ) from None
