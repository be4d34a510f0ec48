"""The way on as whoever called can go it: errors name options, for which Python has arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

#: Options that functions of the package have as arguments of the same name: those that are there or not, and others.
FLAGS = frozenset("any-base compensate force header ignore-beside lossy normalize packed resume".split())  # noqa: SIM905
VALUES = frozenset("base data dtype energy rank replaced task tied to".split())  # noqa: SIM905
_OPTION = re.compile(rf"`--({'|'.join(sorted(FLAGS | VALUES))})(?: ([\w.]+))?`")
_TYPED = False


@contextmanager
def typed() -> Iterator[None]:
    """In the block a command line is carried out: errors are read by who typed it."""
    global _TYPED
    before, _TYPED = _TYPED, True
    try:
        yield
    finally:
        _TYPED = before


def spoken(text: str) -> str:
    """A message with options as they are given here: `--force` on the command line, `force=True` in Python."""
    return text if _TYPED else _OPTION.sub(_argument, text)


def _argument(option: re.Match[str]) -> str:
    name, value = option[1], option[2] or ""
    said = "True" if name in FLAGS else value if value.isupper() or not value else f'"{value}"'
    return f"`{name.replace('-', '_')}={said}`"
