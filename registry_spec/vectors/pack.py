"""The file format in thirty lines, from the specification alone. It makes the vectors, and imports no adaptr."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import rfc8785

Tensor = tuple[str, tuple[int, ...], bytes]

BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1}


def f32(*shape: int, start: float = 1.0) -> Tensor:
    """An F32 tensor that counts up in eighths."""
    n = math.prod(shape)
    return "F32", shape, struct.pack(f"<{n}f", *(start + i / 8 for i in range(n)))


def raw(dtype: str, *shape: int) -> Tensor:
    """A tensor whose bytes count up."""
    return dtype, shape, bytes(i % 100 for i in range(math.prod(shape) * BYTES[dtype]))


def layout(tensors: dict[str, Tensor]) -> tuple[dict[str, Any], bytes]:
    """Entries and data section: by falling element size, then key."""
    entries, data = {}, b""
    for key in sorted(tensors, key=lambda k: (-BYTES.get(tensors[k][0], 0), k)):
        dtype, shape, content = tensors[key]
        entries[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    return entries, data


def header(text: str | bytes) -> bytes:
    """Length and padded JSON."""
    body = text if isinstance(text, bytes) else text.encode()
    body += b" " * (-len(body) % 8)
    return struct.pack("<Q", len(body)) + body


def compact(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def pack(manifest: dict[str, Any] | str, tensors: dict[str, Tensor]) -> bytes:
    """A whole file. A manifest given as text is written as it is."""
    text = manifest if isinstance(manifest, str) else rfc8785.dumps(manifest).decode()
    entries, data = layout(tensors)
    return header(compact({"__metadata__": {"adaptr": text}, **entries})) + data
