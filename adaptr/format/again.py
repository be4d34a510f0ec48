"""What was read of a text, for the next file that has the same text in it: adapters of one structure share much."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import TypeVar

#: Up to so many characters of a file, and so many structures. No more are remembered as seen, so that many structures
#: in turn, each forgotten before it comes again, cost what they did.
KEPT, STRUCTURES = 300_000, 32

Text = TypeVar("Text", bound=Hashable)
Value = TypeVar("Value")


def again(read: Callable[[Text], Value]) -> Callable[[Text], Value | None]:
    """`read`, whose results are kept by the whole text and are not to be changed; None for a text not seen before.

    A text seen once is mostly never seen again, and what is kept makes each garbage collection slower.
    """
    kept = functools.lru_cache(STRUCTURES)(read)
    marks = functools.lru_cache(STRUCTURES)(_mark)

    @functools.wraps(read)
    def found(text: Text) -> Value | None:
        mark = marks(hash(text))
        if not mark:
            mark.append(True)
            return None
        return kept(text)

    return found


def _mark(_: int) -> list[bool]:
    return []
