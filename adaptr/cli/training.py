"""A training as people follow it, on standard error: what will be trained, one bar, and notes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from adaptr.cli import recipe_options, show
from adaptr.cli.output import Output
from adaptr.cli.terminal import coloured
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
        with _bar() as bar:
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

    def __init__(self, output: Output, bar: Any) -> None:
        super().__init__(output)
        self.bar = bar
        self.task = bar.add_task("loading", total=None)

    def stepped(self, point: Point) -> None:
        self.bar.update(self.task, completed=point.step, total=point.steps, description=_said(point))

    def measures(self, done: int, total: int, what: str) -> None:
        self.bar.update(self.task, completed=done, total=total, description=printable(what))

    def _line(self, text: str) -> None:
        self.bar.console.print(printable(text), markup=False, highlight=False)


def _said(point: Point) -> str:
    speed = f", {point.speed:,.0f} tokens/s" if point.speed else ""
    return f"loss {point.loss:.4f}, rate {point.rate:.2g}{speed}"


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, no_color=not coloured(sys.stderr))
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)
