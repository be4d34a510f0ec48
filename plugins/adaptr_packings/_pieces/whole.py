"""Whole numbers of 1 to 8 bits less a zero point, times a scale: plain in bytes, or in a stream of bits a row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from adaptr.errors import CheckpointError
from adaptr.packings import Grid, Parts, Sinks
from adaptr_packings._pieces import bits, tiles
from adaptr_packings._pieces.nibbles import decoded, pairs

if TYPE_CHECKING:
    from torch import Tensor

FLOATS = frozenset({"F32", "BF16", "F16"})


@dataclass(frozen=True)
class Integers(Grid):
    """`bits`: of a number; `tile`: (rows, columns) that share a scale; `scaled`: the scales' dtype; `given`: their
    shape, which is the grid of tiles but for ones; `stream`: whether the codes are packed; `zero`: how zero points lie:
    not at all, `plain` beside the scales, or `packed` along the rows; `order`: whether columns say of which group they
    are.

    (q - z) x s is exact in fp32 before it is rounded once, so it is what the scale's own type would give.
    """

    bits: int
    tile: tiles.Tile
    scaled: str
    given: tuple[int, ...] = ()
    stream: bool = False
    zero: str = ""
    order: bool = False

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        rows, columns = self.shape
        shape = tiles.grid(self.shape, self.tile)
        scales = self.given if math.prod(self.given) == math.prod(shape) else shape
        found: dict[str, tuple[frozenset[str], tuple[int, ...]]] = {
            "weight": (frozenset({"I8"}), self.shape),
            "scale": (FLOATS & {self.scaled}, scales),
        }
        if self.stream:
            found["weight"] = (frozenset({"I32"}), (rows, bits.words(columns, self.bits)))
        if self.zero == "plain":
            found["zero"] = (frozenset({"I8"}), scales)
        elif self.zero:
            found["zero"] = (frozenset({"I32"}), (bits.words(rows, self.bits), shape[1]))
        if self.order:
            found["order"] = (frozenset({"I32", "I64"}), (columns,))
        return found

    @property
    def _half(self) -> int:
        """The code of 0."""
        return 1 << (self.bits - 1 if self.stream else 7)

    def levels(self) -> Tensor:
        import torch

        found = torch.arange(2.0 * self._half) - self._half
        reach = 1 << (self.bits - 1)
        return torch.where((found < -reach) | (found >= reach), math.nan, found)

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        import torch

        stored = parts["weight"].rows(start, stop)
        return bits.taken(stored, self.bits, 0, self.shape[1]) if self.stream else stored.view(torch.uint8) ^ 128

    def scale(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        scale, zero = self._shared(parts, start, stop)
        return self._spread(scale, parts), None if zero is None else self._spread(zero, parts)

    def _spread(self, shared: Tensor, parts: Parts) -> Tensor:
        return shared[:, self._groups(parts)] if self.order else tiles.spread(shared, self.tile, self.shape[1])

    def _shared(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """fp32 (rows, tiles across) of scales and of zero points."""
        scale = tiles.rows_of(parts["scale"], self.shape, self.tile, start, stop).float()
        if not self.zero:
            return scale, None
        if self.zero == "plain":
            return scale, tiles.rows_of(parts["zero"], self.shape, self.tile, start, stop).float()
        first = start // bits.WHOLE
        stored = parts["zero"].rows(first * self.bits, bits.words(stop, self.bits))
        return scale, bits.taken(stored.T, self.bits, start % bits.WHOLE, stop - start).T.float() - self._half

    def _groups(self, parts: Parts) -> Tensor:
        """The group of each column. -1 anywhere says that nothing was ordered."""
        import torch

        found, count = parts["order"].all().long(), tiles.grid(self.shape, self.tile)[1]
        if bool((found == -1).any()):
            return torch.arange(self.shape[1]) // self.tile[1]
        if bool(((found < 0) | (found >= count)).any()):
            raise CheckpointError(
                f"columns of a weight packed as {self.scheme}",
                verb="name",
                got=f"group {int(found.max())}",
                want=f"one of {count}",
                hint="the file is damaged",
            )
        return found

    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        return self._times(codes.float() - self._half, parts, start)

    def decode(self, parts: Parts, start: int, stop: int) -> Tensor:
        if self.stream and self.bits == 4:
            import torch

            raw = parts["weight"].rows(start, stop).view(torch.uint8)
            found = decoded(raw, self._pairs).view(stop - start, -1)[:, : self.shape[1]]
            return self._times(found, parts, start)
        if not self.stream:
            return self._times(parts["weight"].rows(start, stop).float(), parts, start)
        return super().decode(parts, start, stop)

    def _times(self, found: Tensor, parts: Parts, start: int) -> Tensor:
        """Whole numbers (rows, columns), fp32, to what they stand for."""
        from adaptr.format.io import torch_dtype

        shape = found.shape
        if self.order or self.shape[1] % self.tile[1]:
            scale, zero = self.scale(parts, start, start + shape[0])
        else:
            scale, zero = self._shared(parts, start, start + shape[0])
            found = found.reshape(*scale.shape, -1)
            scale, zero = scale.unsqueeze(-1), None if zero is None else zero.unsqueeze(-1)
        found = found if zero is None else found - zero
        return (found * scale).view(shape).to(torch_dtype(self.dtype))

    @cached_property
    def _pairs(self) -> Tensor:
        return pairs(self.levels(), high_first=False)

    def nearest(self, values: Tensor, parts: Parts, start: int) -> Tensor:
        import torch

        scale, zero = self.scale(parts, start, start + values.shape[0])
        found, reach = torch.where(scale == 0, 0.0, values / scale), 1 << (self.bits - 1)
        if zero is not None:
            found += zero
        return (found.round_().clamp_(-reach, reach - 1) + self._half).to(torch.uint8)

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        import torch

        if self.stream:
            into["weight"].rows(start, bits.laid(codes, self.bits))
        else:
            into["weight"].rows(start, (codes.to(torch.uint8) ^ 128).view(torch.int8))
