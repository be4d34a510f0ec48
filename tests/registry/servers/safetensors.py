"""Safetensors files made by hand: right ones, and those that a library may take though they are wrong."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any


def packed(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None, fill: int = 0) -> bytes:
    """A file of float32 tensors; its numbers count up from `fill`."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    numbers: list[float] = []
    for name, shape in shapes.items():
        start = 4 * len(numbers)
        numbers += [((len(numbers) + i + fill) % 13 - 6) / 64 for i in range(math.prod(shape))]
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, 4 * len(numbers)]}
    return raw(json.dumps(entries), struct.pack(f"<{len(numbers)}f", *numbers))


def raw(header: str | bytes, data: bytes = b"") -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + data
