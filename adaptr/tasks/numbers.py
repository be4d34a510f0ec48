"""Columns that are arrays of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.data.records import Record, named

if TYPE_CHECKING:
    import numpy as np


def array(record: Record, column: str, axes: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The finite numbers in a column, with so many axes. Raises `BadRecord`."""
    import numpy as np

    found = record.values.get(column)
    if found is None:
        raise record.place.bad(f"`{column}` is missing", hint=f"the record has {named(record.values)}")
    try:
        made = np.asarray(found, dtype=np.float32)
    except (ValueError, TypeError):
        raise record.place.bad(f"`{column}` is no array of numbers") from None
    if made.ndim != axes or not made.size:
        raise record.place.bad(f"`{column}`", got=f"of shape {made.shape}", want=f"{axes} axes")
    if not np.isfinite(made).all():
        raise record.place.bad(f"`{column}` has numbers that are not finite")
    return made
