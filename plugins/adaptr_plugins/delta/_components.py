"""Principal components of rows that come in batches: Ross et al. 2008, as scikit-learn and PEFT compute them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr_plugins.delta._begun import leading

if TYPE_CHECKING:
    from torch import Tensor

#: Rows, or columns, from which on a decomposition is made by subspace iteration.
LARGE = 512
ROUNDS = 4


@dataclass
class Components:
    """The `most` first of them: singular values (k) and directions (k, width), whose largest entry is positive."""

    most: int
    seen: int = 0
    total: float = 0.0
    mean: Tensor | None = None
    values: Tensor | None = None
    directions: Tensor | None = None

    def see(self, rows: Tensor) -> None:
        """Learn of rows (n, width) fp32."""
        import torch

        n, mean = len(rows), rows.mean(0)
        centred = rows - mean
        self.total += float(centred.square().sum())
        if self.mean is None or self.values is None or self.directions is None:
            self.mean = mean
        else:
            moved = (self.mean - mean) * (self.seen * n / (self.seen + n)) ** 0.5
            self.total += float(moved.square().sum())
            centred = torch.cat([self.values[:, None] * self.directions, centred, moved[None]])
            self.mean = self.mean + (mean - self.mean) * (n / (self.seen + n))
        self.seen += n
        _, S, Vh = leading(centred, self.most, ROUNDS if min(centred.shape) > LARGE else 0)
        largest = Vh.gather(1, Vh.abs().argmax(1, keepdim=True))
        self.values, self.directions = S, Vh * torch.where(largest < 0, -1.0, 1.0)

    @property
    def shares(self) -> Tensor:
        """Of all variance, what each explains."""
        assert self.values is not None
        found: Tensor = self.values.square() / max(self.total, 1e-30)
        return found
