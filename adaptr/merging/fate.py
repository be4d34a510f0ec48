"""What became of weights that were packed again, in sums over their elements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Fate:
    """What became of one weight that was packed again, in sums of squares over all its elements.

    `base`: ‖W‖²; `step`: what rounding to this grid costs, a twelfth of each cell squared; `change`: ‖D‖²; `moved`:
    what D and the difference that came of it have in common; `lost`: ‖(W + D) - W'‖².
    """

    scheme: str
    base: float = 0.0
    step: float = 0.0
    change: float = 0.0
    moved: float = 0.0
    lost: float = 0.0

    def look(self, old: Tensor, wanted: Tensor, new: Tensor, steps: Tensor) -> None:
        before, change = old.float().reshape(-1), (wanted - old.float()).reshape(-1)
        moved = new.float().reshape(-1) - before
        self.base += float(before.dot(before))
        self.step += float(steps.reshape(-1).dot(steps.reshape(-1))) / 12
        self.change += float(change.dot(change))
        self.moved += float(moved.dot(change))
        rest = change - moved
        self.lost += float(rest.dot(rest))

    def add(self, other: Fate) -> None:
        for name in ("base", "step", "change", "moved", "lost"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def error(self) -> float:
        """The error of the base's own rounding, relative to its weights."""
        return math.sqrt(self.step / self.base) if self.base else 0.0

    @property
    def survived(self) -> float:
        """How much of the adapter is in the result: <W' - W, D> / ‖D‖²."""
        return self.moved / self.change if self.change else 1.0

    @property
    def left(self) -> float:
        """‖W' - (W + D)‖ / ‖D‖: above 1, no adapter would be nearer."""
        return math.sqrt(self.lost / self.change) if self.change else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {"scheme": self.scheme, "error": self.error, "survived": self.survived, "left": self.left}
