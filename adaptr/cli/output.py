"""Where a command says what it did: one JSON object, text, or nothing at all."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli.terminal import Passing, coloured, filled
from adaptr.errors import printable

if TYPE_CHECKING:
    from adaptr.cli.show import Block


@dataclass
class Output:
    """`json`: one object on standard output and nothing else. `quiet`: only errors. `verbose`: the details of errors.

    It changes while options are read, so that an error in the command line itself is told in the form asked for.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    passing: Passing = field(default_factory=Passing)

    @classmethod
    def expected(cls, args: list[str]) -> Output:
        """What the arguments seem to ask for, before they are understood."""
        return cls(json="--json" in args, verbose="-v" in args)

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """Say on a terminal what is being done, until something else is said or it is done."""
        if not self.quiet:
            self.passing.say(doing)
        try:
            yield
        finally:
            self.passing.clear()

    def tell(self, document: Mapping[str, Any], blocks: Iterable[Block]) -> None:
        """Say a result: `document` for programs, `blocks` for people."""
        if self.json:
            self.emit(document)
        elif not self.quiet:
            from adaptr.cli import show

            self.passing.clear()
            with unread():
                show.write(blocks)

    def emit(self, document: Mapping[str, Any]) -> None:
        """One JSON object on standard output. Not-a-number has no JSON and becomes null."""
        self.passing.clear()
        said = json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)
        with unread():
            click.echo("\n".join(map(_escaped, said.split("\n"))))

    def warn(self, message: str) -> None:
        """What is right to know and stops nothing."""
        if not self.quiet:
            self.passing.clear()
            click.echo("\n".join(map(_fitting, f"note: {printable(message)}".split("\n"))), err=True)

    def complain(self, message: str) -> None:
        self.passing.clear()
        label = click.style("error:", fg="red", bold=True) if coloured(sys.stderr) else "error:"
        first, *others = printable(message).split("\n")
        lines = [_fitting(f"error: {first}").removeprefix("error:").lstrip(" "), *map(_fitting, others)]
        click.echo(f"{label} " + "\n".join(lines), err=True)


@contextmanager
def unread() -> Iterator[None]:
    """Where nobody reads on, as `| head` leaves it, the rest is not said; the exit code is still what was found."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # or the end of the process would complain
        os.close(nowhere)


def _fitting(line: str) -> str:
    """A line of an error or note as wide as the terminal is, if it is one, what is below it further in."""
    if sys.stderr is None or not sys.stderr.isatty():
        return line
    inside = " " * (len(line) - len(line.lstrip(" ")) + 2)
    return filled(line, shutil.get_terminal_size().columns, inside)


def _escaped(line: str) -> str:
    """A line of JSON with what a terminal would obey written as JSON can: programs read the same."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


class Warnings(logging.Handler):
    """What the library warns of, said as a command says it."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.warn(record.getMessage())


def _plain(value: object) -> object:
    """`value` as JSON knows it."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value if isinstance(value, str | int | float | None) else str(value)
