"""Texts from elsewhere in messages: cut, and with nothing that a terminal would obey."""

from __future__ import annotations

import reprlib


def shown(value: object, limit: int = 80) -> str:
    """How something from a file appears in a message: cut, and with nothing that a terminal would obey."""
    if not isinstance(value, str):
        return reprlib.repr(value)
    return _escaped(value if len(value) <= limit else value[:limit] + "...")


def printable(text: str) -> str:
    """A text, of several lines perhaps, with nothing that a terminal would obey or that turns what is read around.

    What Python does not call printable is escaped: control characters, marks of direction, what has no width.
    """
    return "\n".join(map(_escaped, text.split("\n")))


def _escaped(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
