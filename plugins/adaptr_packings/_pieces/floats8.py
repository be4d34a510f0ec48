"""Floats of eight bits (e4m3) times a scale: of the tensor, of each row, or of each tile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.packings import Grid, Parts, Sinks

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
    tile: tuple[int, int] | None = None
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
        return self._scale(parts, start, stop).float(), None

    def _scale(self, parts: Parts, start: int, stop: int) -> Tensor:
        """As it is multiplied, of the shape of the rows or one that spreads to it."""
        import torch

        from adaptr.format.io import torch_dtype

        found = parts["scale"].all()
        if self.scaled in {"U8", "F8_E8M0"}:
            found = powers(found)
        found = found.to(torch_dtype(self.product))
        if self.tile is None:
            return found.reshape(1, 1) if found.numel() == 1 else found.reshape(-1, 1)[start:stop]
        rows = torch.arange(start, stop) // self.tile[0]
        return found[rows].repeat_interleave(self.tile[1], 1)[:, : self.shape[1]]

    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        import torch

        from adaptr.format.io import torch_dtype

        scale = self._scale(parts, start, start + codes.shape[0])
        found = codes.to(torch.uint8).view(torch.float8_e4m3fn).to(scale.dtype)
        return (found * scale).to(torch_dtype(self.dtype))

    def nearest(self, values: Tensor, parts: Parts, start: int) -> Tensor:
        import torch

        scale, _ = self.scale(parts, start, start + values.shape[0])
        found = torch.where(scale == 0, 0.0, values / scale).clamp_(-LARGEST, LARGEST)
        return found.to(torch.float8_e4m3fn).view(torch.uint8)

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        import torch

        into["weight"].rows(start, codes.to(torch.uint8).view(torch.float8_e4m3fn))
