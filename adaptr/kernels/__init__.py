"""The loops over elements that cost most in a merge with a receipt: in numpy, and the same compiled from C."""

from __future__ import annotations

import functools

from adaptr.kernels.plain import Kernels


@functools.cache
def fastest() -> Kernels:
    """The compiled ones, if they can be had here."""
    from adaptr.kernels import compiled, plain

    return compiled.load() or plain
