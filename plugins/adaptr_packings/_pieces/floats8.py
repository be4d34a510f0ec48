"""Floats of eight bits (e4m3) times a scale: of the tensor, of each row, or of each tile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from adaptr.packings import Grid, Parts, Sinks
from adaptr_packings._pieces import tiles

if TYPE_CHECKING:
    from torch import Tensor

#: The largest finite e4m3.
LARGEST = 448.0
SCALES = frozenset({"F32", "BF16", "F16", "F8_E8M0", "U8"})


def powers(exponents: Tensor) -> Tensor:
    """The powers of two that bytes of e8m0 are, fp32."""
    import torch

    return torch.ldexp(torch.ones(exponents.shape), exponents.view(torch.uint8).int() - 127)


@dataclass(frozen=True)
class Float8(Grid):
    """`tile`: (rows, columns) that share a scale, None for a scale of the tensor or of each row, which then has the
    shape `given`. `product`: the dtype that codes and scales have when they are multiplied.
    """

    scaled: str
    tile: tiles.Tile | None = None
    given: tuple[int, ...] = ()
    product: str = "F32"

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        shape = self.given
        if self.tile is not None:
            shape = tuple(-(-size // one) for size, one in zip(self.shape, self.tile, strict=True))
        elif math.prod(shape) not in {1, self.shape[0]}:
            shape = (self.shape[0], 1)
        return {"weight": (frozenset({"F8_E4M3"}), self.shape), "scale": (SCALES & {self.scaled}, shape)}

    def levels(self) -> Tensor:
        import torch

        return torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        import torch

        return parts["weight"].rows(start, stop).view(torch.uint8)

    def scale(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, None]:
        shared = self._shared(parts, start, stop).float()
        return tiles.spread(shared, self.tile or self.shape, self.shape[1]), None

    def _shared(self, parts: Parts, start: int, stop: int) -> Tensor:
        """(rows, tiles across), or the one of the tensor, as they are multiplied."""
        from adaptr.format.io import torch_dtype

        if self.tile is not None:
            found = tiles.rows_of(parts["scale"], self.shape, self.tile, start, stop)
        elif (found := parts["scale"].all().reshape(-1, 1)).numel() > 1:
            found = found[start:stop]
        if self.scaled in {"U8", "F8_E8M0"}:
            found = powers(found)
        return found.to(torch_dtype(self.product))

    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        import numpy as np
        import torch

        from adaptr.format.io import torch_dtype

        scale, table = self._shared(parts, start, start + codes.shape[0]), self._table
        # numpy's take is several times faster than torch's conversion of floats of eight bits
        raw = np.take(table.view(torch.int16 if table.itemsize == 2 else torch.int32).numpy(), codes.numpy())
        found = torch.from_numpy(raw).view(table.dtype)
        return tiles.times(found, scale, self.tile or self.shape).to(torch_dtype(self.dtype))

    @cached_property
    def _table(self) -> Tensor:
        """The levels, as they are multiplied."""
        from adaptr.format.io import torch_dtype

        return self.levels().to(torch_dtype(self.product))

    def nearest(self, values: Tensor, parts: Parts, start: int) -> Tensor:
        import torch

        scale, _ = self.scale(parts, start, start + values.shape[0])
        found = torch.where(scale == 0, 0.0, values / scale).clamp_(-LARGEST, LARGEST)
        return found.to(torch.float8_e4m3fn).view(torch.uint8)

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        import torch

        into["weight"].rows(start, codes.to(torch.uint8).view(torch.float8_e4m3fn))
