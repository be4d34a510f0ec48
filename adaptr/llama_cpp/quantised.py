"""Tensors in blocks of fewer bits, as floats: by the library `gguf`, and nothing but their bytes is given to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaptr.errors import Unsupported, phrases
from adaptr.format.header import Entry
from adaptr.format.io import TORCH_NAMES

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.format.gguf import GgufHeader


def as_bytes(entry: Entry) -> Entry:
    """The entry of what torch has no dtype for as one of bytes."""
    if entry.dtype in TORCH_NAMES:
        return entry
    return Entry("U8", (entry.nbytes,), entry.start, entry.stop)


def floats(dtype: str, shape: tuple[int, ...], raw: Tensor) -> Tensor:
    """The values of blocks in fp32, as llama.cpp computes with them. Raises `MissingExtra`, `Unsupported`."""
    import torch

    try:
        import gguf
    except ImportError:
        raise phrases.extra(f"reading tensors of the type {dtype}", "gguf", "gguf") from None
    try:
        made = gguf.quants.dequantize(raw.numpy().reshape(*shape[:-1], -1), gguf.GGMLQuantizationType[dtype])
    except (NotImplementedError, KeyError):
        raise Unsupported(f"`gguf` can't make floats of {dtype}", hint="write it as F32, F16 or Q8_0") from None
    return torch.from_numpy(made).reshape(shape)


def said(header: GgufHeader) -> str:
    """What is to be said of quantised tensors, "" where there are none."""
    found = sorted({entry.dtype for entry in header.entries.values() if entry.dtype not in TORCH_NAMES})
    count = math.fsum(entry.dtype in found for entry in header.entries.values())
    if not found:
        return ""
    return f"{count:.0f} tensors are {phrases.listed(found)}: they are read as the floats that llama.cpp makes of them"
