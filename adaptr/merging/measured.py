"""What a merge did to the weights, measured while a block is in the cache, and what it must not do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.errors import NonFinite
from adaptr.merging.patch import integers

if TYPE_CHECKING:
    from torch import Tensor

#: Every eighth block is looked at for the report's sizes and shares.
SAMPLE = 8


@dataclass
class Measured:
    """What a merge did to one tensor. Sums are over the sampled blocks; `moved`: any bit of any block changed."""

    elements: int = 0
    unchanged: int = 0
    base: float = 0.0
    delta: float = 0.0
    moved: bool = False

    def add(self, other: Measured) -> None:
        self.elements += other.elements
        self.unchanged += other.unchanged
        self.base += other.base
        self.delta += other.delta
        self.moved |= other.moved

    @property
    def relative(self) -> float:
        """‖W' - W‖ / ‖W‖."""
        return math.sqrt(self.delta / self.base) if self.base else 0.0

    @property
    def share_unchanged(self) -> float:
        return self.unchanged / self.elements if self.elements else 0.0

    def look(self, old: Tensor, new: Tensor) -> None:
        """Whether a block moved."""
        import torch

        self.moved = self.moved or not torch.equal(old, new)

    def sample(self, old: Tensor, new: Tensor, change: Tensor) -> None:
        """A block as it was, as it is, and what was added before it was rounded."""
        import numpy as np

        before, change = old.to(change.dtype).view(-1), change.reshape(-1)
        self.elements += old.numel()
        # by their bits: torch compares numbers in bf16 many times slower
        self.unchanged += int(np.count_nonzero(integers(old) == integers(new)))
        self.base += float(before.dot(before))
        self.delta += float(change.dot(change))


def require_finite(name: str, new: Tensor, value: Tensor) -> None:
    """Raises `NonFinite` if a block is not finite, or no longer is once rounded to its dtype."""
    # a sum is cheaper than a look at each
    if math.isfinite(float(new.sum())) or bool(new.isfinite().all()):
        return
    if bool(value.isfinite().all()):
        raise NonFinite(
            f"`{name}` would overflow: the merged weights reach {float(value.abs().max()):.3g}, more than "
            f"{str(new.dtype).removeprefix('torch.')} holds",
            hint="use a base of a wider dtype, or a smaller weight",
        )
    raise NonFinite(
        f"`{name}` would hold NaN or infinity after the merge",
        hint="`adaptr inspect ADAPTER --finite` says where they are",
    )
