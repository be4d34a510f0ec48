"""GGUF as bytes: version 3, little-endian, each tensor at a multiple of 32."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptr.format.gguf import ALIGNED, ARRAY, CODES, MAGIC, NUMBERS, STRING, TYPES

if TYPE_CHECKING:
    from adaptr.foreign.saving import Sink
    from adaptr.format.gguf import Value
    from adaptr.format.io import Stored

_CODES = {form: code for code, form in NUMBERS.items()}
#: What a value is written as, by its type: texts, counts, fractions.
_FORMS = {int: "I", float: "f"}


def write(file: Sink, values: Sequence[tuple[str, Value]], tensors: Sequence[tuple[str, Stored]]) -> None:
    """The header at once, then the data in pieces. Values are texts, lists of texts, counts, and floats of fp32."""
    head = MAGIC + struct.pack("<IQQ", 3, len(tensors), len(values))
    head += b"".join(_text(name) + _value(value) for name, value in values)
    at = 0
    for name, (dtype, shape, _) in tensors:
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), CODES[dtype], at)
        at += _padded(math.prod(shape) * TYPES[CODES[dtype]][2])
    file.write(head + bytes(_padded(len(head)) - len(head)))
    for _, (_, _, pieces) in tensors:
        count = 0
        for piece in pieces:
            file.write(piece)
            count += len(piece)
        file.write(bytes(_padded(count) - count))


def _padded(count: int) -> int:
    return count + -count % ALIGNED


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _text(value)
    if isinstance(value, tuple) and value and isinstance(value[0], int):
        return struct.pack(f"<IIQ{len(value)}I", ARRAY, _CODES["I"], len(value), *value)
    if isinstance(value, tuple):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(_text(str(one)) for one in value)
    form = _FORMS[type(value)]
    return struct.pack(f"<I{form}", _CODES[form], value)
