"""What one row of a batch needs of an adapter at one linear layer: y = g ∘ base(u ∘ x) + B A x + c.

Whatever can be said so can be batched with others: low-rank deltas, magnitudes, elementwise scales, biases. At a place
that is no layer it needs what its method makes of the output there (`Apart`), which is computed for its rows alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.contract.mounts import Mount
from adaptr.errors import Unsupported
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Live


@dataclass(frozen=True)
class Row:
    """`A` (r, in) and `B` (out, r), scale included; `gain` g (out), `into` u (in), `shift` c (out). None: not there."""

    A: Tensor | None = None
    B: Tensor | None = None
    gain: Tensor | None = None
    into: Tensor | None = None
    shift: Tensor | None = None

    def __post_init__(self) -> None:
        assert (self.A is None) == (self.B is None), "factors come in pairs"
        assert self.into is None or self.A is None, "A reads the layer's own input"

    def weighed(self, weight: float) -> Row:
        """At a strength: outputs are interpolated, y + w (y' - y)."""
        if weight == 1.0:
            return self

        def near_one(v: Tensor | None) -> Tensor | None:
            return None if v is None else 1 + weight * (wide(v) - 1)

        def scaled(v: Tensor | None) -> Tensor | None:
            return None if v is None else wide(v) * weight

        return Row(self.A, scaled(self.B), near_one(self.gain), near_one(self.into), scaled(self.shift))

    def __add__(self, other: Row) -> Row:
        """Two adapters on one layer. Raises `Unsupported` where the second would read what the first has changed."""
        import torch

        if any(v is not None for row in (self, other) for v in (row.gain, row.into)):
            raise Unsupported(
                "two adapters on one layer, one of which scales it, can't be one row of a batch",
                hint="give each a row of its own, or merge them into one by `adaptr compose`",
            )
        shifts = [v for v in (self.shift, other.shift) if v is not None]
        A, B = self.A, self.B
        if A is None or B is None:
            A, B = other.A, other.B
        elif other.A is not None and other.B is not None:
            A, B = torch.cat((A, other.A)), torch.cat((B, other.B), 1)
        return Row(A, B, shift=sum(shifts[1:], shifts[0]) if shifts else None)


@dataclass(frozen=True)
class Step:
    """What one adapter makes of an output h by x: h + `weight` (`output(h, x, p)` - h), p having its `tensors`."""

    mount: Mount
    tensors: Mapping[str, Tensor]
    output: Callable[[Tensor, Tensor, Live], Tensor]
    weight: float = 1.0


@dataclass(frozen=True)
class Apart:
    """What adapters make of an output, one after the other."""

    steps: tuple[Step, ...]

    def weighed(self, weight: float) -> Apart:
        return Apart(tuple(dataclasses.replace(step, weight=weight * step.weight) for step in self.steps))

    def __add__(self, other: Apart) -> Apart:
        return Apart(self.steps + other.steps)
