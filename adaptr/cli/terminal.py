"""What the terminal is that is written to, and a line on it that passes."""

from __future__ import annotations

import os
import sys
from typing import IO


def coloured(stream: IO[str]) -> bool:
    """Whether a stream is a terminal that wants colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and not _dumb()


def _dumb() -> bool:
    return os.environ.get("TERM") == "dumb"


class Passing:
    """A line on standard error, where that is a terminal: what is being done, until something else is said.

    It needs nothing that takes time to import, so that people see it before whatever does.
    """

    def __init__(self) -> None:
        self._there = False

    def say(self, text: str) -> None:
        self.clear()
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(f"{text} ...\n" if _dumb() else f"{text} ...")
            sys.stderr.flush()
            self._there = not _dumb()

    def clear(self) -> None:
        if self._there:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._there = False
