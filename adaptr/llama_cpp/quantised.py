"""Tensors in blocks of fewer bits, as floats: by the library `gguf`, and nothing but their bytes is given to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported, phrases
from adaptr.format.header import Entry
from adaptr.format.io import TORCH_NAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from adaptr.format.gguf import GgufHeader


#: What the library writes as llama.cpp does, block by block, each of `BLOCK` elements and with its scale (fp16) first.
WRITTEN = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
BLOCK = 32
#: What becomes of a changed tensor of another type.
ELSE = "Q8_0"


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


def blocks(dtype: str, values: Tensor) -> Tensor:
    """Rows of fp32 as rows of the bytes of blocks, of a type that is among `WRITTEN`."""
    import gguf
    import torch

    made = gguf.quants.quantize(values.contiguous().numpy(), gguf.GGMLQuantizationType[dtype])
    return torch.from_numpy(made)


def nearer(dtype: str, values: Tensor, there: Tensor, made: Tensor) -> Tensor:
    """Rows of blocks: of `made`, but for those that `there` has no farther from `values`."""
    import torch

    keep = torch.from_numpy(_distances(dtype, values, there) <= _distances(dtype, values, made))
    wide = (*keep.shape, made.shape[-1] // keep.shape[-1])
    return torch.where(keep.unsqueeze(-1), there.reshape(wide), made.reshape(wide)).reshape(made.shape)


def _distances(dtype: str, values: Tensor, raw: Tensor) -> NDArray[Any]:
    """‖values - blocks‖² of each block; added up in one order, whatever the machine."""
    off = (floats(dtype, tuple(values.shape), raw) - values).double().square().numpy()
    off = off.reshape(*off.shape[:-1], -1, BLOCK)
    while off.shape[-1] > 1:
        half = off.shape[-1] // 2
        off = off[..., :half] + off[..., half:]
    return off[..., 0]


def steps(raw: Tensor, size: int) -> Tensor:
    """The scales of rows of blocks of `size` bytes, fp32: one for each element."""
    import torch

    first = raw.reshape(len(raw), -1, size)[..., :2].contiguous()
    return first.view(torch.float16).float().abs().repeat_interleave(BLOCK, -1).reshape(len(raw), -1)


def said(header: GgufHeader) -> str:
    """What is to be said of quantised tensors, "" where there are none."""
    found = sorted({entry.dtype for entry in header.entries.values() if entry.dtype not in TORCH_NAMES})
    count = math.fsum(entry.dtype in found for entry in header.entries.values())
    if not found:
        return ""
    return f"{count:.0f} tensors are {phrases.listed(found)}: they are read as the floats that llama.cpp makes of them"
