"""Alphas that lie in a file as tensors of one number, read without torch."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

from adaptr.errors import ConfigConflict, phrases

#: safetensors' dtypes to what `struct` calls them.
_FORMATS = {
    "F16": "<e", "F32": "<f", "F64": "<d", "I8": "<b", "I16": "<h", "I32": "<i", "I64": "<q", "U8": "<B",
    "U16": "<H", "U32": "<I", "U64": "<Q",
}  # fmt: skip


def dtype_of(tensors: Mapping[str, Any], key: str) -> str:
    """The dtype of a tensor, as safetensors calls it."""
    from adaptr.format.io import stored_of

    return stored_of(tensors, key)[0]


def number(tensors: Mapping[str, Any], key: str) -> float:
    """The one finite number of the tensor `key`. Raises `ConfigConflict` for anything else."""
    from adaptr.format.io import stored_of

    dtype, shape, pieces = stored_of(tensors, key)
    if math.prod(shape) != 1 or (dtype not in _FORMATS and dtype != "BF16"):
        raise _no_number(key, f"{dtype} of shape {shape}")
    raw = b"".join(bytes(piece) for piece in pieces)
    value = struct.unpack("<f", b"\0\0" + raw)[0] if dtype == "BF16" else struct.unpack(_FORMATS[dtype], raw)[0]
    if not math.isfinite(value):
        raise _no_number(key, str(value))
    return float(value)


def _no_number(key: str, got: str) -> ConfigConflict:
    return ConfigConflict(f"`{key}`", verb="is", got=got, want="one finite number", hint=phrases.AGAIN)


def stored(value: float, dtypes: tuple[str, ...]) -> tuple[str, bytes]:
    """`value` in the first of `dtypes` that holds it exactly, else in F64: dtype and bytes."""
    for dtype in dtypes:
        raw = _packed(value, dtype)
        if raw is not None:
            return dtype, raw
    return "F64", struct.pack("<d", value)


def _packed(value: float, dtype: str) -> bytes | None:
    """`value` in a dtype, None where it is not exact there."""
    try:
        if dtype == "BF16":
            raw = struct.pack("<f", value)
            return raw[2:] if raw[:2] == b"\0\0" and struct.unpack("<f", raw)[0] == value else None
        form = _FORMATS.get(dtype)
        if form is None:
            return None
        whole = form[1] not in "efd"
        raw = struct.pack(form, int(value) if whole else value)
        return raw if struct.unpack(form, raw)[0] == value else None
    except (struct.error, OverflowError):
        return None
