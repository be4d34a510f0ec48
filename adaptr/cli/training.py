"""A training as people follow it, on standard error: what will be trained, one bar, and notes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from adaptr.cli import recipe_options, show
from adaptr.cli.output import Output
from adaptr.cli.progress import Bar
from adaptr.errors import printable
from adaptr.training.watching import About, Point, Watcher

#: Lines of a training that nobody watches on a terminal.
LINES = 20


@contextmanager
def shown(output: Output) -> Iterator[Watcher]:
    """Who tells it. Nobody, where nothing but an object or errors are asked for."""
    if output.quiet or output.json:
        yield Watcher()
    elif sys.stderr.isatty():
        with output.busy("loading"), Bar(output, "loading", steps=True) as bar:
            yield OnTerminal(output, bar)
    else:
        yield InLog(output)


class InLog(Watcher):
    """Lines, no more than a few."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def begins(self, about: About) -> None:
        for block in recipe_options.about(about):
            if isinstance(block, show.Facts):
                self._facts(block)

    def _facts(self, block: show.Facts) -> None:
        for name, value in block.values.items():
            if value:
                self._line(f"{name:<8} {value}")

    def stepped(self, point: Point) -> None:
        every = max(1, point.steps // LINES)
        if point.step % every == 0 or point.step == point.steps:
            self._line(f"step {point.step} of {point.steps}: {_said(point)}")

    def noted(self, note: str) -> None:
        self.output.warn(note)

    def _line(self, text: str) -> None:
        click.echo(printable(text), err=True)


class OnTerminal(InLog):
    """The same, with a bar."""

    def __init__(self, output: Output, bar: Bar) -> None:
        super().__init__(output)
        self.bar = bar

    def stepped(self, point: Point) -> None:
        self.bar(point.step, point.steps, _said(point))

    def measures(self, done: int, total: int, what: str) -> None:
        self.bar(done, total, what)

    def _line(self, text: str) -> None:
        self.bar.line(text)


def _said(point: Point) -> str:
    speed = f", {point.speed:,.{int(point.speed < 10)}f} tokens/s" if point.speed else ""
    return f"loss {point.loss:.4f}, rate {point.rate:.2g}{speed}"
