"""A part of data held back to measure on."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from adaptr.data.records import Data
from adaptr.errors import DataError, UsageError


def share_of(text: str) -> float | None:
    """`5%` as 0.05; None for what names a file. Raises `UsageError` for a share that leaves nothing."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    if found is None:
        _require_no_fraction(text)
        return None
    share = float(found[1]) / 100
    if not 0 < share < 1:
        raise UsageError("the share to measure on", got=text, want="more than 0% and less than 100%")
    return share


def _require_no_fraction(text: str) -> None:
    """`0.1`, which other tools take for a share, is the name of no data."""
    if re.fullmatch(r"0?\.\d+", text.strip()):
        raise UsageError("the share to measure on", got=text, want=f"it in per cent: `{100 * float(text):g}%`")


def split(data: Data, share: float, seed: int = 0) -> tuple[Data, Data]:
    """(to learn from, to measure on), each in the order of the file. Raises `DataError` where one would be empty.

    Which records are held back depends on the seed and on how many there are, not on what is in them.
    """
    count = len(data.records)
    held = max(1, round(share * count))
    if held >= count:
        raise DataError(
            f"{data.given}: what can be held back to measure on leaves nothing to learn from",
            got=f"{count} record{'' if count == 1 else 's'}, and {share:.0%} of them",
            want="at least two and a smaller share" if count > 1 else "at least two",
        )
    order = sorted(range(count), key=lambda index: _drawn(seed, index))
    chosen = frozenset(order[:held])
    told = f"{held} of {count} records are held back to measure on, drawn by seed {seed}"
    parts = [[r for i, r in enumerate(data.records) if (i in chosen) is side] for side in (False, True)]
    learn, measure = (replace(data, records=part, said=(*data.said, told)) for part in parts)
    return learn, measure


def _drawn(seed: int, index: int) -> bytes:
    """A number that is the same on every machine and with every version of Python."""
    return hashlib.sha256(f"{seed}:{index}".encode()).digest()
