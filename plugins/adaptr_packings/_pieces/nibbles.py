"""Two codes of four bits a byte, and the tables that they are looked up in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_HALF = (0.0, 0.0052083334885537624, 0.6666666865348816, 1.0, 0.3333333432674408, 0.5, 0.1666666716337204, 0.25)
#: bitsandbytes' floats of four bits; its kernels give -0.0 for code 8, where the stored map has 0.0.
FP4 = (*_HALF, *(-level for level in _HALF))
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
#: Open Compute's floats of four bits: MXFP4 and NVFP4.
E2M1 = (*_E2M1, *(-level for level in _E2M1))


def unpacked(raw: Tensor, high_first: bool) -> Tensor:
    """(..., n) bytes to (..., 2n) codes, uint8."""
    import torch

    halves = (raw >> 4, raw & 15) if high_first else (raw & 15, raw >> 4)
    return torch.stack(halves, -1).flatten(-2)


def packed(codes: Tensor, high_first: bool) -> Tensor:
    """The codes of a whole block of rows, flattened, to bytes; a last one alone gets 0 beside it."""
    import torch

    flat = codes.reshape(-1).to(torch.uint8)
    if flat.numel() % 2:
        flat = torch.nn.functional.pad(flat, (0, 1))
    first, second = flat[0::2], flat[1::2]
    return (first << 4 | second) if high_first else (second << 4 | first)


def pairs(levels: Tensor, high_first: bool) -> Tensor:
    """(256, 2): the two levels of each byte."""
    import torch

    byte = torch.arange(256)
    halves = (byte >> 4, byte & 15) if high_first else (byte & 15, byte >> 4)
    return torch.stack([levels[half] for half in halves], 1)


def decoded(raw: Tensor, pairs: Tensor) -> Tensor:
    """The levels of bytes, flat, fp32. `pairs`: (256, 2) fp32, the two levels of each byte.

    By numpy, whose `take` of eight bytes at once is several times faster than an index of torch's.
    """
    import numpy as np
    import torch

    both = np.take(pairs.contiguous().numpy().view(np.uint64).reshape(-1), raw.reshape(-1).numpy())
    return torch.from_numpy(both.view(np.float32))
