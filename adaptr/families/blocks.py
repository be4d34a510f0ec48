"""Sizes of blocks that must divide a layer."""

from __future__ import annotations

from adaptr.errors import BadConfig


def divisor(what: str, wanted: int, size: int, path: str, step: int = 1) -> int:
    """The largest divisor of `size`, a multiple of `step`, up to `wanted`; `what`: the field that asks for it.

    Raises `BadConfig` where there is none above 1.
    """
    found = max((b for b in range(step, min(wanted, size) + 1, step) if size % b == 0), default=1)
    if found == 1 < wanted:
        raise BadConfig(what, got=wanted, want=f"a divisor of {size}, above 1 and up to that, at `{path}`")
    return found
