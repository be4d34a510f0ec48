"""What people called a place that is adaptr's own: messages and reports call it so too.

The store shows an artifact's files in a folder that its digest names. Nobody gave that path, and it helps nobody.
"""

from __future__ import annotations

import os

_GIVEN: dict[str, str] = {}


def call(place: str | os.PathLike[str], given: str) -> None:
    """From now on this folder, and what is in it, is called as it was given last."""
    _GIVEN[os.fspath(place)] = given


def called(text: object) -> str:
    """A text, or a path, in which no place of adaptr's own stands that has another name."""
    found = str(text)
    for place, given in tuple(_GIVEN.items()):  # another thread may open an artifact meanwhile
        if place in found:
            found = found.replace(place, given)
    return found
