"""Columns by the names that tasks know them by."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping

from adaptr.data.records import Place, named
from adaptr.errors import DataError


def renamed(
    rows: Iterable[tuple[Place, Mapping[str, object]]], columns: Mapping[str, str]
) -> Iterator[tuple[Place, Mapping[str, object]]]:
    """Rows with `columns` (the task's name: the file's) under the task's names; the others keep theirs.

    A name with dots goes into what is nested: `source: translation.en`. Raises `DataError`.
    """
    for place, values in rows:
        taken = {own: _found(place, values, theirs) for own, theirs in columns.items()}
        gone = set(columns.values())
        yield place, {**taken, **{name: v for name, v in values.items() if name not in gone and name not in taken}}


def _found(place: Place, values: Mapping[str, object], name: str) -> object:
    if name in values:
        return values[name]
    found: object = values
    for part in name.split("."):
        if not (isinstance(found, Mapping) and part in found):
            raise absent(place, name, values)
        found = found[part]
    return found


def absent(place: Place, name: str, values: Mapping[str, object], own: str = "") -> DataError:
    """The error for a column that is not there, with what is, and near names."""
    near = difflib.get_close_matches(name, values, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`? " if near else ""
    return place.bad(f"there is no column `{name}`", hint=f"{hint}the record has {named(values)}")
