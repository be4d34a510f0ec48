"""What a method does to weights, and the way back: from a change of a weight to its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target
from adaptr.contract.declared import Declared
from adaptr.contract.live import Live
from adaptr.contract.settings import C
from adaptr.contract.view import View
from adaptr.errors import NotMergeable, Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.algebra.operator import Operator
    from adaptr.families.row import Apart, Row


#: What `merge` answers for methods that have no weight, by the kind of reason.
REASONS = {
    "non-linear": "it applies a non-linear function to the activation, so no change to the base weights reproduces it",
    "gated": "its weights are others for each token, so no change to the base weights reproduces it",
    "elsewhere": "it changes what goes into a layer or comes out of it",
    "positions": "what it does depends on where a token stands in its text, so no change to the base weights does it",
    "network": "it is a network beside the model",
    "tokens": "it adds key/value or token positions, not weights",
}


class OnWeights(Declared[C]):
    """A method without a weight, one that is `unmergeable`, supplies none of these."""

    def refusal(self) -> NotMergeable:
        """Why no weight does what the method does."""
        return NotMergeable(self.name, REASONS[self.unmergeable or "elsewhere"], self.possible)

    def view(self, base: View, p: Live, cfg: C, weight: float) -> View:
        """The layer `base` with the adapter in it."""
        raise NotImplementedError

    def inverse(self, merged: View, p: Live, cfg: C, kept: Mapping[str, Tensor], weight: float) -> View:
        """The layer below `merged`."""
        raise Unsupported(f"`{self.name}` has no inverse", hint="keep the base's tensors")

    def keep(self, base: View, p: Live, cfg: C, rows: slice) -> dict[str, Tensor]:
        """What `inverse` needs beyond the adapter, for `rows` of the weight: usually nothing."""
        return {}

    def keep_whole(self, p: Live, cfg: C, weight: float) -> dict[str, Tensor]:
        """The same for all rows at once: what follows from the adapter, but not on every machine to the bit."""
        return {}

    def travels(self, p: Live, cfg: C) -> bool:
        """Whether its inverse has the same bits on every machine, of a View that is `exact`."""
        return self.can.inverse and self.portable

    def operator(self, target: Target, p: Live) -> Operator:
        """D at a target, where the method adds one to the weight that does not depend on the weight."""
        raise Unsupported(f"`{self.name}` has no delta of its own", hint=self.possible)

    def shift(self, p: Live, cfg: C, weight: float = 1.0) -> Tensor | None:
        """What is added to the bias at a strength, in fp32 or better; None for nothing."""
        return None

    def by_rows(self, cfg: C) -> bool:
        """Whether a block of rows of the merged weight needs only that block of the base, in that configuration."""
        return self.can.rowwise

    def couples(self, cfg: C) -> bool:
        """Whether what it makes of a bias depends on the weight below: who asks for that bias has rows to give."""
        return False

    def factors(self, cfg: C) -> tuple[str, str, float] | None:
        """The names of B and A, and s, where all that the method does is to add s B A, made of these very tensors.

        Adapters that say so are computed together where several meet. None for all others.
        """
        return None

    def row(self, target: Target, base: View, p: Live) -> Row | Apart:
        """What one row of a batch needs at a linear layer, or at a place, where each row has its own adapter.

        `base`: the layer without adapters. Raises `Unsupported` where the method can't be said so.
        """
        raise self.rowless()

    @property
    def no_row(self) -> str:
        """Why there is no row, "" where there is one."""
        if self.can.row:
            return ""
        other = "what it does to a weight is neither of low rank nor a scale of features"
        reason = REASONS.get(self.unmergeable, other)
        return f"`{self.name}` can't be one row of a batch among other adapters: {reason}"

    def rowless(self) -> Unsupported:
        """The error of a method that has no row."""
        return Unsupported(
            self.no_row,
            hint="attach several by `adaptr.BatchSplit`, or, where it has a weight, "
            "`adaptr convert --method lora --rank R`, which measures the error",
        )

    def written(self, op: Operator | None, bias: Tensor | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and tensors at a target that make the change `op` of the weight and `bias` of the bias."""
        raise Unsupported(
            f"no delta can be written as `{self.name}`: its tensors don't follow from what they do",
            hint="write it as `lora`",
        )
