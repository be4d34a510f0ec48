"""What people called a place that is adaptr's own: messages and reports call it so too.

The store shows an artifact's files in a folder that its digest names. Nobody gave that path, and it helps nobody.
"""

from __future__ import annotations

import os
import threading

#: Names that are kept, the newest: a program that opens artifacts all day does not grow by them.
KEPT = 1000
_GIVEN: dict[str, str] = {}
_LOCK = threading.RLock()  # a finaliser may have something to say while another message is made


def call(place: str | os.PathLike[str], given: str) -> None:
    """From now on this folder, and what is in it, is called as it was given last."""
    with _LOCK:
        _GIVEN.pop(os.fspath(place), None)
        _GIVEN[os.fspath(place)] = given
        while len(_GIVEN) > KEPT:
            del _GIVEN[next(iter(_GIVEN))]


def called(text: object) -> str:
    """A text, or a path, in which no place of adaptr's own stands that has another name."""
    found = str(text)
    with _LOCK:  # another thread may open an artifact meanwhile
        names = list(_GIVEN.items())
    for place, given in names:
        if place in found:
            found = found.replace(place, given)
    return found
