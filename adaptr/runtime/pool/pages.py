"""One buffer on the device for factors of any rank: pages of `width` numbers, of which a row takes what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

if TYPE_CHECKING:
    from torch import Tensor


class Pages:
    """`count` pages of `width` numbers. Not touched, they cost no memory on a CPU."""

    def __init__(self, count: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
        with torch.inference_mode(False):  # what is made in that mode can't be written outside of it
            self.data = torch.empty((count, width), dtype=dtype, device=device)
        self.count, self.width = count, width
        self._returned: list[Tensor] = []  # runs of pages, the last one used first: it is warm
        self._fresh = 0
        self.free = count

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
        found.append(torch.arange(self._fresh, self._fresh + missing, device=self.data.device))
        self._fresh += missing
        return torch.cat(found)

    def give(self, pages: Tensor) -> None:
        self.free += len(pages)
        self._returned.append(pages)

    def write(self, pages: Tensor, rows: Tensor) -> None:
        """Put a matrix (rows, features) into `pages`."""
        wide = self.per_row(rows.shape[1]) * self.width
        self.data[pages] = pad(rows, (0, wide - rows.shape[1])).reshape(-1, self.width).to(self.data)

    def matrices(self, count: int, rows: int, features: int) -> Tensor:
        """Room for `count` matrices (rows, features) as they come from pages: filled up to a whole number of them."""
        return self.data.new_empty((count, rows, self.per_row(features) * self.width))

    def read(self, pages: Tensor, into: Tensor) -> None:
        """Copy the matrix that lies in `pages` into one of `matrices`; zeros in the rows it does not have."""
        found, count = into.view(-1, self.width), pages.shape[0]
        if count < found.shape[0]:
            found[count:] = 0
            found = found[:count]
        torch.index_select(self.data, 0, pages, out=found)
