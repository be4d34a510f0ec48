"""Whether stored numbers are finite, by their bits: of every dtype, without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from adaptr.errors import NonFinite
from adaptr.format.io import PIECE, stored_of

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter

#: How wide a number is in bits, what of it is looked at, and what that is for NaN (and infinity, where there is one).
BITS = {
    "F64": (64, 0x7FF0_0000_0000_0000, 0x7FF0_0000_0000_0000), "F32": (32, 0x7F80_0000, 0x7F80_0000),
    "F16": (16, 0x7C00, 0x7C00), "BF16": (16, 0x7F80, 0x7F80), "C64": (32, 0x7F80_0000, 0x7F80_0000),
    "F8_E5M2": (8, 0x7C, 0x7C), "F8_E4M3": (8, 0x7F, 0x7F), "F8_E8M0": (8, 0xFF, 0xFF),
    "F8_E4M3FNUZ": (8, 0xFF, 0x80), "F8_E5M2FNUZ": (8, 0xFF, 0x80),
}  # fmt: skip


def require_finite(adapter: Adapter, called: str = "") -> None:
    """Raises `NonFinite` for an adapter with NaN or infinity in it. `called`: what people call it."""
    bad = nonfinite(adapter.tensors)
    if bad:
        raise NonFinite(
            f"`{bad[0]}` in `{called or adapter.label}` holds NaN or infinity ({len(bad)} tensors do): it is broken",
            hint="take one that was saved before its training failed",
        )


def nonfinite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The keys of those with NaN or infinity, read a piece at a time."""
    return [key for key in tensors if not _finite(tensors, key)]


def _finite(tensors: Mapping[str, Tensor], key: str) -> bool:
    if not hasattr(tensors, "stored") and _sums(tensors[key]):
        return True
    dtype, _, data = stored_of(tensors, key)
    return dtype not in BITS or all(_all_finite(dtype, piece) for whole in data for piece in _cut(whole))


def _sums(tensor: Tensor) -> bool:
    """Whether a tensor has nothing to look for, or a sum that is finite, which is cheaper than a look at each."""
    if tensor.is_meta or not tensor.is_floating_point():
        return not tensor.is_complex()
    return tensor.element_size() > 1 and math.isfinite(float(tensor.detach().sum()))


def _cut(data: bytes | bytearray | memoryview) -> Iterable[memoryview]:
    whole = memoryview(data)
    return (whole[at : at + PIECE] for at in range(0, len(whole), PIECE))


def _ruled_out(highest: bytes, mask: int, bad: int) -> bool:
    """Whether no number's highest byte is one that NaN or infinity have: so nearly always, and seen without numpy."""
    return not any(byte in highest for byte in range(256) if byte & mask == bad)


def _all_finite(dtype: str, data: memoryview) -> bool:
    width, mask, bad = BITS[dtype]
    if _ruled_out(bytes(data)[width // 8 - 1 :: width // 8], mask >> width - 8, bad >> width - 8):
        return True
    import numpy as np

    found = np.frombuffer(data, f"<u{width // 8}")
    return not bool(((found & mask) == bad).any())
