"""Command lines as people type them: in a pipe, or on a terminal of some width; in this process, with a home beside."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_STREAMS = (contextlib.redirect_stdout, contextlib.redirect_stderr)


@dataclass(frozen=True)
class Ran:
    """How a command line ended. On a terminal `out` has all that was shown, in its order."""

    code: int
    out: str
    err: str = ""


def piped(folder: Path, words: Sequence[str], given: str = "") -> Ran:
    """Run `adaptr WORDS` in a folder; `given` comes and its output goes through a pipe."""
    out, err = io.StringIO(), io.StringIO()
    with _placed(folder, given), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        return Ran(_code(words), out.getvalue(), err.getvalue())


def typed(folder: Path, words: Sequence[str], columns: int, given: str = "") -> Ran:
    """Run `adaptr WORDS` in a folder on a terminal of that width, which wants no colours (`NO_COLOR`)."""
    ours, theirs = os.openpty()
    shown = _Shown(ours)
    wanted = {"NO_COLOR": "1", "COLUMNS": str(columns), "LINES": "24", "TERM": "xterm-256color"}
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(open(theirs, "w", encoding="utf-8"))
        for entered in (_placed(folder, given, **wanted), *(to(screen) for to in _STREAMS)):
            stack.enter_context(entered)
        code = _code(words)
    return Ran(code, shown.text())


class _Shown(threading.Thread):
    """Reads a terminal until it is closed."""

    def __init__(self, number: int) -> None:
        super().__init__(daemon=True)
        self._number, self._read = number, bytearray()
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError), open(self._number, "rb", buffering=0) as screen:
            while data := screen.read(1 << 16):
                self._read += data

    def text(self) -> str:
        self.join()
        return self._read.decode("utf-8", "replace").replace("\r\n", "\n")


def _code(words: Sequence[str]) -> int:
    from adaptr.cli import run

    try:
        return run(list(words))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


@contextlib.contextmanager
def _placed(folder: Path, given: str, **variables: str) -> Iterator[None]:
    """In a folder, with a home in it, and nobody at the keyboard but what is given."""
    before, keyboard, here = dict(os.environ), sys.stdin, os.getcwd()
    os.environ.update({"ADAPTR_HOME": str(folder / ".home"), "NO_COLOR": "1", **variables})
    sys.stdin = io.TextIOWrapper(io.BytesIO(given.encode()))
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
        sys.stdin = keyboard
        os.environ.clear()
        os.environ.update(before)
