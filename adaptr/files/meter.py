"""How far long work has come, told by several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

#: progress(done, total, what), in bytes.
Progress = Callable[[int, int, str], None]


class Meter:
    """Adds up what workers report and passes it on, one call at a time."""

    def __init__(self, total: int, what: str, progress: Progress | None) -> None:
        self._total, self._what, self._progress = total, what, progress
        self._done, self._lock = 0, threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._progress is not None:
                self._progress(min(self._done, self._total), self._total, self._what)
