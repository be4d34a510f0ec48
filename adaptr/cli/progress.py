"""What is being done, on standard error, for people who look at a terminal; nothing for anyone else.

At once a line that says what; with the first figures a bar, or a spinner where nobody knows the end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from adaptr.cli.output import Output
from adaptr.cli.terminal import coloured
from adaptr.errors import printable
from adaptr.errors.text import size

if TYPE_CHECKING:
    from rich.progress import Progress as Rich
    from rich.progress import ProgressColumn

Progress = Callable[[int, int, str], None]
#: Columns from which on a bar has room beside what is done and how much of it.
NARROW = 60


@contextmanager
def bar(out: Output, what: str, steps: bool = False) -> Iterator[Progress | None]:
    """A `progress(done, total, what)` in bytes, or in steps, or None where nobody would see it; 0 is no total."""
    if out.quiet or not sys.stderr.isatty():
        yield None
        return
    with out.busy(what), Bar(out, what, steps) as shown:
        yield shown


class Bar:
    """Shown from the first call on; what it is drawn with takes a tenth of a second to import."""

    def __init__(self, out: Output, what: str, steps: bool) -> None:
        self.out, self.what, self.steps = out, what, steps
        self._shown: Rich | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown is not None:
            self._shown.stop()

    def __call__(self, done: int, total: int, what: str) -> None:
        shown = self._started()
        shown.columns = _known(self.steps, shown.console.width >= NARROW) if total else _unknown()
        said = "" if total or not done else str(done) if self.steps else size(done)
        shown.update(shown.task_ids[0], completed=done, total=total or None, description=printable(what), said=said)
        shown.start()  # once it has something to show; later calls of it do nothing

    def line(self, text: str) -> None:
        """A line above the bar."""
        shown = self._started()
        shown.start()
        shown.console.print(printable(text), markup=False, highlight=False)

    def _started(self) -> Rich:
        if self._shown is None:
            from rich.console import Console
            from rich.progress import Progress as Rich

            self.out.passing.clear()
            console = Console(stderr=True, no_color=not coloured(sys.stderr))
            self._shown = Rich(*_unknown(), console=console, transient=True)
            self._shown.add_task(self.what, total=None, said="")
        return self._shown


def _known(steps: bool, wide: bool) -> tuple[ProgressColumn, ...]:
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    count = MofNCompleteColumn() if steps else DownloadColumn()
    what = TextColumn("{task.description}", markup=False)
    return (what, BarColumn(), count, TimeRemainingColumn()) if wide else (what, count)


def _unknown() -> tuple[ProgressColumn, ...]:
    from rich.progress import SpinnerColumn, TextColumn

    return SpinnerColumn(), TextColumn("{task.description}", markup=False), TextColumn("{task.fields[said]}")
