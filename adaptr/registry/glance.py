"""The header of a safetensors file that stays where it is: one small read, rarely a second one."""

from __future__ import annotations

import struct
from collections.abc import Callable

from adaptr.errors import HeaderTruncated, phrases

#: What is asked for at first, in bytes: nearly every header fits.
COUNT = 64 << 10
#: The longest header that is fetched to look at, in bytes.
MAX = 16 << 20


def header(start: Callable[[int], bytes], size: int, what: str) -> bytes:
    """The JSON of the header. `start(count)` gives the first bytes of a file of `size` bytes, called `what`.

    Raises `HeaderTruncated` for what does not start like a safetensors file.
    """
    first = start(min(COUNT, size))
    length = struct.unpack("<Q", first[:8])[0] if len(first) >= 8 else 0
    if not 0 < length <= min(MAX, size - 8):
        raise HeaderTruncated(f"`{what}` does not start like a safetensors file", hint=phrases.FETCH)
    if len(first) < 8 + length:
        first = start(8 + length)
    if len(first) < 8 + length:
        raise HeaderTruncated(f"`{what}` ends within its header, after {len(first)} bytes", hint=phrases.FETCH)
    return first[8 : 8 + length]
