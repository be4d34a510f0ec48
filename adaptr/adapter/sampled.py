"""What tells two revisions of a base apart: a digest over samples of its weights, as bf16, made without torch."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping

#: Values of each weight that are looked at.
SAMPLES = 32
#: safetensors' floats to what `struct` calls them.
_FORMATS = {"F64": "d", "F32": "f", "F16": "e"}


def digest_of(samples: Mapping[str, bytes]) -> str:
    """The digest over values by the names of their targets; "" for none."""
    digest = hashlib.sha256()
    for path in sorted(samples):
        digest.update(path.encode() + b"\0" + samples[path])
    return "sha256:" + digest.hexdigest() if samples else ""


def as_bf16(raw: bytes | bytearray, dtype: str) -> bytes:
    """Little-endian floats rounded to bf16, to the nearest and of two to the even one, as torch does it."""
    if dtype == "BF16":
        return bytes(raw)
    count = len(raw) // struct.calcsize(_FORMATS[dtype])
    values = struct.unpack(f"<{count}{_FORMATS[dtype]}", raw)
    return b"".join(struct.pack("<H", _rounded(value)) for value in values)


def _rounded(value: float) -> int:
    try:
        (bits,) = struct.unpack("<I", struct.pack("<f", value))
    except OverflowError:  # beyond fp32, which is infinity there
        bits = 0x7F80_0000 if value > 0 else 0xFF80_0000
    if bits & 0x7FFF_FFFF > 0x7F80_0000:  # NaN, of which torch has one
        return 0x7FC0
    return int((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
