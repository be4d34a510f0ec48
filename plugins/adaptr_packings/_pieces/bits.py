"""Codes of any width in a stream of bits, the lowest first, as they lie in words of 32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr_packings._pieces.nibbles import packed, unpacked

if TYPE_CHECKING:
    from torch import Tensor

#: Codes that fill whole words, of whatever width.
WHOLE = 32


def words(count: int, bits: int) -> int:
    """How many words of 32 bits hold so many codes."""
    return -(-count * bits // 32)


def taken(streams: Tensor, bits: int, first: int, count: int) -> Tensor:
    """(rows, words) int32 to the codes [first, first + count) of each row, (rows, count) uint8."""
    import numpy as np
    import torch

    raw = torch.from_numpy(np.ascontiguousarray(streams.numpy()).view(np.uint8))
    span = slice(first, first + count)
    if bits == 8:
        return raw[:, span]
    if bits == 4:
        return unpacked(raw, high_first=False)[:, span]
    each = np.unpackbits(raw.numpy(), axis=1, bitorder="little")[:, first * bits : span.stop * bits]
    together = np.packbits(each.reshape(len(each), count, bits), axis=2, bitorder="little")
    return torch.from_numpy(together[..., 0])


def laid(codes: Tensor, bits: int) -> Tensor:
    """(rows, count) codes to (rows, words) int32; the last word is filled with zeros."""
    import numpy as np
    import torch

    rows, count = codes.shape
    full = torch.nn.functional.pad(codes.to(torch.uint8), (0, -count % WHOLE))
    if bits == 8:
        raw = full
    elif bits == 4:
        raw = packed(full, high_first=False).view(rows, -1)
    else:
        each = np.unpackbits(full.unsqueeze(-1).numpy(), axis=2, count=bits, bitorder="little")
        raw = torch.from_numpy(np.packbits(each.reshape(rows, -1), axis=1, bitorder="little"))
    return raw.contiguous().view(torch.int32)[:, : words(count, bits)].contiguous()
