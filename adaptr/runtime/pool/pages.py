"""One buffer on the device for factors of any rank: pages of `width` numbers; a factor's row takes as many as it needs.

Page 0 holds zeros and belongs to nobody: what is shorter than its neighbours in a batch is filled up with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

if TYPE_CHECKING:
    from torch import Tensor


class Pages:
    """`count` pages of `width` numbers. Not touched, they cost no memory on a CPU."""

    def __init__(self, count: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.data = torch.empty((count, width), dtype=dtype, device=device)
        self.data[:1] = 0
        self.count, self.width = count, width
        self._returned: list[Tensor] = []  # runs of pages, the last one used first: it is warm
        self._fresh = 1
        self.free = count - 1

    def per_row(self, features: int) -> int:
        return -(-features // self.width)

    def take(self, count: int) -> Tensor:
        """The numbers of `count` free pages, which the caller knows are there."""
        assert count <= self.free, "the caller makes room"
        self.free -= count
        found, missing = [], count
        while missing and self._returned:
            run = self._returned.pop()
            found.append(run[:missing])
            if len(run) > missing:
                self._returned.append(run[missing:])
            missing -= len(found[-1])
        found.append(torch.arange(self._fresh, self._fresh + missing))
        self._fresh += missing
        return torch.cat(found)

    def give(self, pages: Tensor) -> None:
        self.free += len(pages)
        self._returned.append(pages)

    def write(self, pages: Tensor, rows: Tensor) -> None:
        """Put a matrix (rows, features) into `pages`."""
        wide = self.per_row(rows.shape[1]) * self.width
        filled = pad(rows, (0, wide - rows.shape[1])) if wide != rows.shape[1] else rows
        self.data[pages.to(self.data.device)] = filled.reshape(-1, self.width).to(self.data)

    def read(self, pages: Tensor, features: int) -> Tensor:
        """Matrices (n, rows, features) from pages (n, rows * per_row), copied."""
        wide = self.per_row(features) * self.width
        found = self.data.index_select(0, pages.flatten().to(self.data.device))
        return found.view(pages.shape[0], -1, wide)[:, :, :features]
