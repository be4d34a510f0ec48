"""What a method costs at a target, beside its tensors: said by the method, for a token where it grows with the text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from adaptr.adapter import Target
from adaptr.contract.declared import Declared
from adaptr.contract.settings import C


@dataclass(frozen=True)
class Costs:
    """In numbers, not bytes; of the dtype that the layer computes in.

    For the backward, beyond what the base alone keeps: `input`: that the input of the layer is kept; `token`: numbers
    for each token; `once`: numbers whatever the batch. `flops`: of the forward, for each token, two for a product and
    a sum; products of matrices alone. `longer`: tokens that all of the model reads more. `columns`: keys and values
    that an attention has more, for every head. `apart`: that no gradient goes from it into the base, of which
    nothing is kept for it.
    """

    input: bool = False
    token: int = 0
    once: int = 0
    flops: int = 0
    longer: int = 0
    columns: int = 0
    apart: bool = False


class Costing(Declared[C]):
    """What planning asks; all follows from the rest unless a method says otherwise."""

    #: How near what it is said to keep for the backward is to what torch keeps, as a share of what all of a small
    #: model keeps.
    kept_within: ClassVar[float] = 0.025

    def costs(self, target: Target, cfg: C) -> Costs | None:
        """What training and running it costs at a target; None to have it found by running a layer of its shape."""
        return None

    def changes(self, target: Target, cfg: C) -> int:
        """How many numbers of the base it gives other values, as far as a weight does what it does."""
        return math.prod(target.shape) if self.can.weighs else 0
