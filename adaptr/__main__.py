"""`adaptr` and `python -m adaptr`."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from typing import NoReturn

#: What shells report for a process that Ctrl-C ended.
INTERRUPTED = 130
#: The same for a polite kill.
TERMINATED = 143


def entry() -> NoReturn:
    """The process of one command line."""
    leave(main())


def leave(code: int) -> NoReturn:
    """End the process: with all that is due, but without taking apart what vanishes with it.

    Where torch is loaded that takes half a second, longer than many commands.
    """
    if threading.active_count() == 1:  # others are waited for as ever
        atexit._run_exitfuncs()
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        except (OSError, ValueError):  # nobody reads, or it is closed: the usual end has its own way with that
            sys.exit(code)
        os._exit(code)
    sys.exit(code)


def main(args: list[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    try:
        signal.signal(signal.SIGTERM, _stop)
        from adaptr.cli import run

        return run(sys.argv[1:] if args is None else args)
    except KeyboardInterrupt:
        return INTERRUPTED


def _stop(*_: object) -> None:
    """An exception instead of sudden death, so that unfinished outputs are taken away."""
    sys.exit(TERMINATED)


if __name__ == "__main__":
    entry()
