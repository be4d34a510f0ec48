"""When to ask again: what may pass by itself, a few times, ever later, and not before the server says."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable
from typing import TypeVar

from adaptr.errors import TransferError

T = TypeVar("T")

TRIES = 5
#: Seconds before the second try; it doubles each time.
PAUSE = 0.25
#: The longest that a server's `Retry-After` is obeyed, in seconds.
PATIENCE = 60.0
#: Answers that another try may change.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


def retried(work: Callable[[], T]) -> T:
    """What `work` gives, tried again after each `TransferError` until `TRIES` are spent."""
    for number in range(TRIES - 1):
        try:
            return work()
        except TransferError as error:
            time.sleep(max(error.after, PAUSE * 2**number * random.uniform(0.75, 1.25)))
    return work()


def asked(retry_after: str) -> float:
    """Seconds that a `Retry-After` header asks for, at most `PATIENCE`; 0 without one."""
    said = retry_after.strip()
    if said.isascii() and said.isdigit():
        return PATIENCE if len(said) > 9 else min(float(said), PATIENCE)
    try:
        until = email.utils.parsedate_to_datetime(said).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):  # of dates that are none
        return 0.0
    return min(max(until - time.time(), 0.0), PATIENCE)
