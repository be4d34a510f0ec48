"""What the terminal is that is written to."""

from __future__ import annotations

import os
from typing import IO


def coloured(stream: IO[str]) -> bool:
    """Whether a stream is a terminal that wants colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
