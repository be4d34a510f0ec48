"""Whole numbers less a zero point, times a scale: what GPTQ, AWQ and HQQ store, each in an order of its own."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.packings import Grid, Parts

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Integers(Grid):
    """`bits`: of a code as it lies."""

    bits: int

    @property
    def most(self) -> int:
        """The highest code that stands for a level."""
        return (1 << self.bits) - 1

    @abstractmethod
    def affine(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """(scale, zero) of rows, of their shape, in the type that the library computes in."""

    def levels(self) -> Tensor:
        import torch

        found = torch.arange(1 << self.bits, dtype=torch.float32)
        return torch.where(found > self.most, torch.nan, found)

    def scale(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        scale, zero = self.affine(parts, start, stop)
        return scale.float(), zero.float()

    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        scale, zero = self.affine(parts, start, start + codes.shape[0])
        return scaled(codes, scale, zero)

    def nearest(self, values: Tensor, parts: Parts, start: int) -> Tensor:
        import torch

        scale, zero = self.scale(parts, start, start + values.shape[0])
        found = torch.where(scale == 0, 0.0, values / scale).add_(zero)
        codes = found.round_().clamp_(0, self.most).to(torch.uint8)
        coarse = self.dtype == "BF16" and self.bits > 7
        return self._refined(codes, values, parts, start) if coarse else codes

    def _refined(self, codes: Tensor, values: Tensor, parts: Parts, start: int) -> Tensor:
        """Of each code and its neighbours the one that is read as the nearest: bf16 rounds eight bits times a scale."""
        import torch

        off = (self.values(codes, parts, start).float() - values).abs()
        for beside in (codes.int() - 1, codes.int() + 1):
            other = beside.clamp_(0, self.most).to(torch.uint8)
            far = (self.values(other, parts, start).float() - values).abs()
            codes, off = torch.where(far < off, other, codes), torch.minimum(far, off)
        return codes


def scaled(codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """What codes stand for, in the type of the scales."""
    return codes.to(scale.dtype).sub_(zero).mul_(scale)


def spread(of_groups: Tensor, group: int, columns: int) -> Tensor:
    """(rows, groups) to (rows, columns), each `group` columns of one group."""
    rows, groups = of_groups.shape
    return of_groups.unsqueeze(-1).expand(rows, groups, group).reshape(rows, -1)[:, :columns]
