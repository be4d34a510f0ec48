"""An answer as it comes: its text on standard output, without the blanks around it."""

from __future__ import annotations

import click

from adaptr.cli.output import Output, unread
from adaptr.errors import printable


class Streamed:
    """Called with each piece. Blanks are held back until something stands behind them."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._held, self.begun = "", False

    def __call__(self, piece: str) -> None:
        text = self._held + piece
        whole = text.rstrip()
        self._held = text[len(whole) :]
        if not self.begun:
            whole = whole.lstrip()
        if whole:
            self.begun = True
            self._output.passing.clear()
            with unread():
                click.echo(printable(whole), nl=False)
        else:
            self._held = text if self.begun else ""

    def end(self) -> None:
        """The line ends, where it was begun."""
        if self.begun:
            with unread():
                click.echo()
        self._held, self.begun = "", False
