"""Which elements an algebraic inverse gets wrong, and what they were: small, because they are few.

A patch is the exclusive-or of the true and the computed bits where they differ. Positions are stored as gaps (uint16,
with 0xFFFF for 65,535 elements passed over), values as they are, both in byte planes and Huffman-coded: 0.03 to 0.2
bits for each element of a bf16 weight with the usual delta.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

from adaptr.errors import DigestMismatch
from adaptr.format.io import raw_bytes

if TYPE_CHECKING:
    from torch import Tensor

SKIP = 0xFFFF
_LENGTHS = struct.Struct("<QQQQ")


class Differences:
    """Differences of one tensor, collected block by block in the order of the elements."""

    def __init__(self) -> None:
        self.gaps: list[Tensor] = []
        self.values: list[Tensor] = []
        self.last = -1

    def add(self, true: Tensor, computed: Tensor, at: int) -> None:
        """A block of contiguous elements of one dtype, starting at flat index `at`."""
        found = words(true) ^ words(computed)
        hit = found.nonzero().view(-1)
        if not hit.numel():
            return
        shift = (found.element_size() // true.element_size()).bit_length() - 1
        fine = found[hit].view(_integer(true.element_size()))
        inner = fine.nonzero().view(-1)
        positions = (hit[inner >> shift] << shift) + (inner & (1 << shift) - 1)
        self.values.append(fine[inner])
        self._append_gaps(positions, at)

    def _append_gaps(self, positions: Tensor, at: int) -> None:
        """Elements passed over before each position, long gaps broken up by `SKIP`."""
        import torch

        first, last = at + int(positions[0]), at + int(positions[-1])
        passed = first - self.last - 1
        self.last = last
        self.gaps.append(torch.tensor([SKIP] * (passed // SKIP) + [passed % SKIP]).to(torch.int32))
        gaps = (positions[1:] - positions[:-1] - 1).to(torch.int32)
        self.gaps.append(gaps if last - first < SKIP or int(gaps.max()) < SKIP else _broken(gaps))

    def encode(self) -> bytes:
        """The patch as bytes; empty if nothing differs."""
        import torch

        if not self.values:
            return b""
        gaps, values = torch.cat(self.gaps), torch.cat(self.values)
        size = values.element_size()
        packed = _pack(gaps, 2), _pack(values, size)
        return _LENGTHS.pack(gaps.numel(), values.numel(), size, len(packed[0])) + packed[0] + packed[1]


def _broken(gaps: Tensor) -> Tensor:
    """The same gaps, each long one as so many `SKIP` and a rest."""
    counts = gaps // SKIP + 1
    out = gaps.new_full((int(counts.sum()),), SKIP)
    out[counts.cumsum(0) - 1] = gaps % SKIP
    return out


def words(tensor: Tensor) -> Tensor:
    """The bits of a contiguous tensor, flat, as 64-bit integers where they divide: fewer to look at."""
    import torch

    flat = tensor.reshape(-1)
    wide = flat.numel() * flat.element_size() % 8 == 0 and flat.data_ptr() % 8 == 0
    return flat.view(torch.int64 if wide else _integer(flat.element_size()))


def _integer(size: int) -> Any:
    import torch

    return {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size]


class Patch:
    """A decoded patch: flat positions, rising, and the bits to flip there."""

    def __init__(self, positions: Tensor, values: Tensor) -> None:
        self.positions, self.values = positions, values


def decode(blob: bytes) -> Patch | None:
    """A patch from bytes; None where nothing differs. Raises `DigestMismatch` if it is damaged."""
    import torch

    if not blob:
        return None
    try:
        count, number, size, length = _LENGTHS.unpack_from(blob)
        body = blob[_LENGTHS.size :]
        gaps = _unpack(body[:length], count, 2).to(torch.int64) & 0xFFFF
        values = _unpack(body[length:], number, size)
    except (struct.error, zlib.error, KeyError) as error:
        raise DigestMismatch(f"a patch of the receipt is damaged: {error}") from None
    is_skip = gaps == SKIP
    passed = (gaps + (~is_skip).to(torch.int64)).cumsum(0)
    positions = passed[~is_skip] - 1
    if len(positions) != len(values):
        raise DigestMismatch(f"a patch of the receipt is damaged: {len(positions)} positions, {len(values)} values")
    return Patch(positions, values)


def apply(patch: Patch | None, block: Tensor, at: int) -> None:
    """Put a block of contiguous elements, starting at flat index `at`, right in place."""
    if patch is None:
        return
    import torch

    ends = torch.searchsorted(patch.positions, torch.tensor([at, at + block.numel()]))
    first, last = int(ends[0]), int(ends[1])
    bits = block.view(-1).view(_integer(block.element_size()))
    bits[patch.positions[first:last] - at] ^= patch.values[first:last]


def _pack(values: Tensor, size: int) -> bytes:
    """Byte planes of little-endian integers, Huffman-coded."""
    import torch

    planes = values.contiguous().view(torch.uint8).view(values.numel(), -1)[:, :size].t().contiguous()
    coder = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    return coder.compress(raw_bytes(planes)) + coder.flush()


def _unpack(data: bytes, count: int, size: int) -> Tensor:
    import torch

    want = count * size
    coder = zlib.decompressobj()
    raw = coder.decompress(data, want + 1)
    if len(raw) != want:
        raise DigestMismatch(f"a patch of the receipt is damaged: {len(raw)} bytes for {count} values of {size}")
    planes = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(size, count)
    return planes.t().contiguous().view(-1).view(_integer(size))
