"""A bar on standard error, for people who look at a terminal; nothing for anyone else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adaptr.cli.output import Output
from adaptr.cli.terminal import coloured
from adaptr.errors import printable

Progress = Callable[[int, int, str], None]


@contextmanager
def bar(out: Output, what: str, steps: bool = False) -> Iterator[Progress | None]:
    """A `progress(done, total, what)` in bytes, or in steps, or None where nobody would see it."""
    if out.quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, no_color=not coloured(sys.stderr))
    count = MofNCompleteColumn() if steps else DownloadColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), count, TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as shown:
        task = shown.add_task(what, total=None)

        def progress(done: int, total: int, what: str) -> None:
            shown.update(task, completed=done, total=total, description=printable(what))

        yield progress
