"""`adaptr` and `python -m adaptr`."""

from __future__ import annotations

import signal
import sys
from typing import Any

#: What shells report for a process that Ctrl-C ended.
INTERRUPTED = 130
#: The same for a polite kill.
TERMINATED = 143


def main(args: list[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    try:
        signal.signal(signal.SIGTERM, _stop)
        from adaptr.cli import run

        return run(sys.argv[1:] if args is None else args)
    except KeyboardInterrupt:
        return INTERRUPTED


def _stop(*_: Any) -> None:
    """An exception instead of sudden death, so that unfinished outputs are taken away."""
    sys.exit(TERMINATED)


if __name__ == "__main__":
    sys.exit(main())
