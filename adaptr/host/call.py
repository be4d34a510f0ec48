"""What belongs to one call of a model and not to the model: each thread finds its own, so that calls don't mix.

A chain of (owner, value, rest), never changed but replaced, so that all of it is one reference: what a checkpointed
block runs once more, in whatever thread, is given the chain that was there the first time.
"""

from __future__ import annotations

import threading
from typing import Any

#: (owner, value, what was there before) or None.
Chain = tuple[Any, Any, Any] | None
# plain: neither a subclass with a default nor a ContextVar that is set inside of a forward can be compiled
_NOW = threading.local()


def chain() -> Chain:
    """All that belongs to the call that this thread is in."""
    found: Chain = getattr(_NOW, "chain", None)
    return found


def restore(before: Chain) -> None:
    """Let `before` be all there is."""
    _NOW.chain = before


def put(owner: object, value: Any) -> Chain:
    """Let `owner` find `value` in this call; returns what to `restore` when it is over."""
    before = chain()
    _NOW.chain = (owner, value, before)
    return before


def find(owner: object) -> Any:
    """What was put for `owner` last, or None."""
    link = chain()
    while link is not None:
        if link[0] is owner:
            return link[1]
        link = link[2]
    return None
