"""Help as wide as the terminal is, narrow ones too."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import click

#: The least that click lays out for by itself, and the share of the width that names of options take at most.
LEAST, SHARE = 52, 3 / 8

#: What stands for a hyphen while lines are broken, so that names of options and plugins are not.
WHOLE = "\u2011"


class Formatter(click.HelpFormatter):
    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        columns = shutil.get_terminal_size().columns
        narrow = columns - 2 if width is None and columns < LEAST else width
        super().__init__(indent_increment, narrow, max_width)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        whole = [(name, text.replace("-", WHOLE)) for name, text in rows]
        super().write_dl(whole, min(col_max, int(self.width * SHARE)), col_spacing)

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", WHOLE))

    def write(self, string: str) -> None:
        super().write(string.replace(WHOLE, "-"))


class Context(click.Context):
    formatter_class = Formatter
