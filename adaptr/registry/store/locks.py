"""Locks between processes. They save work and order writers; nothing is wrong where a file system ignores them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Seconds between two tries for a lock.
PAUSE = 0.05


@contextmanager
def held(path: Path, patience: float) -> Iterator[bool]:
    """Hold the lock at `path`; after `patience` seconds go on without it, which is what is yielded."""
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield _locked(file, time.monotonic() + patience)
    finally:
        os.close(file)


def _locked(file: int, until: float) -> bool:
    import fcntl

    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(PAUSE)
        except OSError:  # nothing can be locked on this file system
            return False


def honoured(path: Path) -> bool:
    """Whether this file system keeps locks at all: one that can't be had is then really held by somebody."""
    import fcntl

    file = os.open(f"{path}.probe", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return True
