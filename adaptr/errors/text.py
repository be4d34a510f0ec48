"""Texts from elsewhere in messages: cut, and with nothing that a terminal would obey; and figures in them."""

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


def size(count: float) -> str:
    """A number of bytes: `1.5 MB` (decimal, as disks are sold)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def _escaped(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
