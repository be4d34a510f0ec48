"""Data sets of the Hugging Face hub, through `datasets`: files of data alone; no code of a data set is run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.data.arrow import names_of
from adaptr.data.format import Opened, Row, Rows
from adaptr.errors import DataError, phrases, shown

if TYPE_CHECKING:
    from datasets import Dataset

#: `owner/name`, with a configuration and a part perhaps: `nyu-mll/glue:sst2:validation`.
NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w.-]+){0,2}")


def names(given: str) -> bool:
    """Whether a text names a data set of the hub: there is no such folder here that it could be in."""
    return NAME.fullmatch(given) is not None and not Path(given).parent.exists()


def part(given: str) -> Opened:
    """`train`, or the part that is named. The digest is of its rows as lines of JSON, which no cache changes."""
    try:
        import datasets
    except ImportError:
        raise phrases.extra("data of the hub", "datasets", "train") from None
    name, *said = given.split(":")
    config, split = said if len(said) == 2 else (None, *(said or ["train"]))
    datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # whatever the network, the hub and the files lead `datasets` to
        reason = shown(f"{type(error).__name__}: {error}", 200)
        raise DataError(
            f"`{given}` is no file here, and can't be had from the hub: {reason}", hint="check the name"
        ) from error
    digest = hashlib.sha256()
    return Opened(Rows(_rows(found, digest)), given, lambda: f"sha256:{digest.hexdigest()}")


def _rows(found: Dataset, digest: hashlib._Hash) -> Iterator[Row]:
    names = names_of(found.features.to_dict())
    for column, feature in found.features.items():
        if hasattr(feature, "decode_example"):  # images and audio stay bytes; the task opens them
            found = found.cast_column(column, type(feature)(decode=False))
    for number, row in enumerate(found, 1):
        digest.update(json.dumps(row, sort_keys=True, default=_plain).encode() + b"\n")
        yield number, names(row)


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
