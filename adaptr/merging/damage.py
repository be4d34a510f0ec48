"""A receipt that is not as it was written."""

from __future__ import annotations

from adaptr.errors import DigestMismatch

#: The way on: what a receipt can't give back, the base itself does.
WAY = "put the receipt back as it was written, or use the base itself"


def damaged(what: str) -> DigestMismatch:
    return DigestMismatch(what, hint=WAY)
