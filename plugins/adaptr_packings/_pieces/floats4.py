"""Floats of four bits (E2M1), two a byte, the first in the low nibble, times the scale of their group: NVFP4, whose
scales are e4m3 and which has one more for the tensor, and MXFP4, whose scales are powers of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from adaptr.packings import Grid, Parts, Sinks
from adaptr.packings.codec import picked
from adaptr_packings._pieces import tiles
from adaptr_packings._pieces.floats8 import powers
from adaptr_packings._pieces.nibbles import E2M1, decoded, packed, pairs, unpacked

if TYPE_CHECKING:
    from torch import Tensor


class Fours(Grid):
    """What all grids of E2M1 have."""

    def levels(self) -> Tensor:
        import torch

        return torch.tensor(E2M1)

    @cached_property
    def _pairs(self) -> Tensor:
        return pairs(self.levels(), high_first=False)

    @cached_property
    def _between(self) -> Tensor:
        """Where one level ends and the next begins, by which a number halfway goes to the even code."""
        import torch

        levels = self.levels()[:8]
        middles = (levels[1:] + levels[:-1]) / 2
        middles[1::2] = middles[1::2].nextafter(torch.zeros(()))
        return middles

    def nearest(self, values: Tensor, parts: Parts, start: int) -> Tensor:
        """A sign stays, of zero too."""
        import torch

        scale, _ = self.scale(parts, start, start + values.shape[0])
        found = torch.where(scale == 0, 0.0, values / scale)
        # compared seven times: several times faster than a search of each
        codes, size = found.signbit().to(torch.uint8) << 3, found.abs()
        for edge in self._between:
            codes += size > edge
        return codes


@dataclass(frozen=True)
class Float4(Fours):
    """A matrix. `group`: columns that share a scale; `scaled`: the scales' dtype; `overall`: the shape of the scale of
    the tensor, None for no such; `divides`: whether that is divided by; `one_zero`: whether code 8 is 0.0 as code 0 is.
    """

    group: int
    scaled: str
    overall: tuple[int, ...] | None = None
    divides: bool = False
    one_zero: bool = False

    def levels(self) -> Tensor:
        return super().levels() + 0.0 if self.one_zero else super().levels()

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        rows, columns = self.shape
        known = {"F8_E4M3"} if self.overall is not None else {"U8", "F8_E8M0"}
        found: dict[str, tuple[frozenset[str], tuple[int, ...]]] = {
            "weight": (frozenset({"U8"}), (rows, columns // 2)),
            "scale": (frozenset(known & {self.scaled} or known), (rows, columns // self.group)),
        }
        if self.overall is not None:
            found["overall"] = (frozenset({"F32"}), self.overall if self.overall in {(), (1,)} else ())
        return found

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        return unpacked(parts["weight"].rows(start, stop), high_first=False)

    def scale(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, None]:
        return tiles.spread(self._shared(parts, start, stop), (1, self.group), self.shape[1]), None

    def _shared(self, parts: Parts, start: int, stop: int) -> Tensor:
        """fp32 (rows, groups)."""
        stored = parts["scale"].rows(start, stop)
        if self.overall is None:
            return powers(stored)
        overall = parts["overall"].all().reshape(1, 1)
        return stored.float() / overall if self.divides else stored.float() * overall

    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        return self._times(picked(self.levels(), codes), parts, start)

    def decode(self, parts: Parts, start: int, stop: int) -> Tensor:
        found = decoded(parts["weight"].rows(start, stop), self._pairs)
        return self._times(found.view(stop - start, self.shape[1]), parts, start)

    def _times(self, found: Tensor, parts: Parts, start: int) -> Tensor:
        from adaptr.format.io import torch_dtype

        scale = self._shared(parts, start, start + found.shape[0])
        return tiles.times(found, scale, (1, self.group)).to(torch_dtype(self.dtype))

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        into["weight"].rows(start, packed(codes, high_first=False).view(codes.shape[0], -1))
