"""What the terminal is that is written to, and a line on it that passes."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from typing import IO

_CODE = re.compile(r"`[^`\n]+`")
#: A space that no line is broken at.
_JOINED = "\u00a0"


def coloured(stream: IO[str]) -> bool:
    """Whether a stream is a terminal that wants colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and not _dumb()


def _dumb() -> bool:
    return os.environ.get("TERM") == "dumb"


def filled(text: str, width: int, behind: str = "") -> str:
    """A line broken between words, which what is in backticks is one of where a line holds it. What no line holds is
    left to the terminal, whole for who copies it. `behind`: what other lines begin with.
    """
    room = width - len(behind)
    kept = _CODE.sub(lambda one: one[0].replace(" ", _JOINED) if len(one[0]) <= room else one[0], text)
    lines = textwrap.wrap(
        kept, width, subsequent_indent=behind, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    return "\n".join(lines).replace(_JOINED, " ")


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
