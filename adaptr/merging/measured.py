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
    """What a merge did to one tensor. Sums are over the sampled blocks; `moved`: any bit of any block changed, but by
    another dtype. `computed`, `rounded`: sums of what is written in another dtype, and of what that rounded.
    """

    elements: int = 0
    unchanged: int = 0
    base: float = 0.0
    delta: float = 0.0
    moved: bool = False
    computed: float = 0.0
    rounded: float = 0.0

    def add(self, other: Measured) -> None:
        self.elements += other.elements
        self.unchanged += other.unchanged
        self.base += other.base
        self.delta += other.delta
        self.moved |= other.moved
        self.computed += other.computed
        self.rounded += other.rounded

    @property
    def relative(self) -> float:
        """‖W' - W‖ / ‖W‖."""
        return math.sqrt(self.delta / self.base) if self.base else 0.0

    @property
    def share_unchanged(self) -> float:
        return self.unchanged / self.elements if self.elements else 0.0

    @property
    def rounding(self) -> float:
        """‖written - computed‖ / ‖computed‖."""
        return math.sqrt(self.rounded / self.computed) if self.computed else 0.0

    def round(self, value: Tensor, new: Tensor) -> None:
        """A block as it was computed, and as it is written in another dtype. What is no number is not counted."""
        value = value.double().nan_to_num(0.0, 0.0, 0.0)
        off = new.double().nan_to_num(0.0, 0.0, 0.0) - value
        self.computed += float(value.square().sum())
        self.rounded += float(off.square().sum())

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
    require_room(name, new, value)
    raise NonFinite(
        f"`{name}` would hold NaN or infinity after the merge",
        hint="`adaptr inspect ADAPTER --finite` says where they are",
    )


def require_room(name: str, new: Tensor, value: Tensor) -> None:
    """Raises `NonFinite` where what was finite no longer is once rounded to its dtype."""
    finite = value.isfinite()
    if bool((new.isfinite() | ~finite).all()):
        return
    raise NonFinite(
        f"`{name}` would overflow: the merged weights reach {float(value[finite].abs().max()):.3g}, more than "
        f"{str(new.dtype).removeprefix('torch.')} holds",
        hint="say a wider `--dtype`, use a base of one, or give a smaller weight",
    )
