"""Whole numbers that stay, less zero points that change: these are floats, one for each row and group of inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from adaptr.format.header import DTYPES
from adaptr.packings import Encoded, Parts, Sinks
from adaptr_packings._pieces.integers import Integers, scaled, spread

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Zeros(Encoded):
    """`whole`: how the numbers lie; `group`: inputs of a row that have one zero point; `stored`: the dtype of these.

    The codes are their bytes.
    """

    whole: Integers
    group: int
    stored: str

    main: ClassVar[str] = "zero"

    @property
    def _each(self) -> int:
        """Zero points of a row."""
        return self.shape[1] // self.group

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        return self.whole.wanted()

    def before(self, row: int) -> int:
        return row * self._each * DTYPES[self.stored] // 8

    def _zeros(self, parts: Parts, start: int, stop: int) -> Tensor:
        """(rows, groups), as they are stored."""
        return parts["zero"].all().view(-1, self._each)[start:stop]

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        import torch

        return self._zeros(parts, start, stop).contiguous().view(torch.uint8)

    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        from adaptr.format.io import torch_dtype

        stop = start + codes.shape[0]
        scale, _ = self.whole.affine(parts, start, stop)
        zero = spread(codes.view(torch_dtype(self.stored)), self.group, self.shape[1])
        return scaled(self.whole.codes(parts, start, stop), scale, zero.to(scale.dtype))

    def nearest(self, values: Tensor, parts: Parts, start: int) -> Tensor:
        """Moved by the mean change of their group, in steps: where nothing changes they stay what they are."""
        import torch

        from adaptr.format.io import torch_dtype

        stop = start + values.shape[0]
        change = (values - self.decode(parts, start, stop).float()).view(-1, self._each, self.group).mean(-1)
        step = self.whole.scale(parts, start, stop)[0][:, :: self.group]
        moved = self._zeros(parts, start, stop).float() - torch.where(step == 0, 0.0, change / step)
        return moved.to(torch_dtype(self.stored)).view(torch.uint8)

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        into["zero"].bytes(self.before(start), codes.reshape(-1))

    def steps(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        """Those of the numbers, which the base was rounded to."""
        whole = self.whole.codes(parts, start, start + codes.shape[0])
        return self.whole.steps(whole, parts, start)
