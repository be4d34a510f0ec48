"""What there is in data, counted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from adaptr.data.records import Record


def duplicates(records: Sequence[Record]) -> int:
    """Records whose columns are all those of one before."""
    seen = {_digest(record.values) for record in records}
    return len(records) - len(seen)


def shared(records: Sequence[Record], others: Sequence[Record]) -> int:
    """How many of `others` are among `records` too: what is measured on them was learned."""
    seen = {_digest(record.values) for record in records}
    return sum(_digest(record.values) in seen for record in others)


def _digest(values: Mapping[str, object]) -> bytes:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=repr).encode()).digest()
