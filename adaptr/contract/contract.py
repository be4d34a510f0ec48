"""What a method supplies, typed: read after `hookspecs`.

    declared     what it says of itself, its table of tensors, and what it can
    activations  where it sits in a live model, and what it does there
    weights      what it does to a weight, and back
    creation     what a fresh adapter of it is made of
    training     what becomes of it in training
    costs        what it costs at a target, for `adaptr plan`

`Contract[C]` has C, a frozen dataclass, for its configuration: `class LoRA(Delta[Config])`. Formulas get the tensors of
one target as `Live` and their configuration as C. What is not supplied is what most methods do. A family
(`adaptr.families`) answers the five verbs with these members, and asks its methods for one or two formulas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.adapter import Adapter, weighting
from adaptr.contract.activations import OnActivations
from adaptr.contract.costs import Costing
from adaptr.contract.creation import Creation
from adaptr.contract.settings import C
from adaptr.contract.training import Training
from adaptr.contract.weights import OnWeights

if TYPE_CHECKING:
    from torch import nn
    from transformers import DynamicCache


class Contract(OnActivations[C], OnWeights[C], Creation[C], Training[C], Costing[C]):
    """All that the core may ask of a method."""

    def key(self, path: str, name: str) -> str:
        """What a tensor of a target is called in a file: those that all targets share are there once."""
        return f":{name}" if self.params[name].shared else f"{path}:{name}"

    def materialised(self, adapter: Adapter) -> Adapter:
        """`adapter` with what it computes of other tensors for every input alike as tensors, without those: usually as
        it is.
        """
        return adapter

    def alike(self, adapter: Adapter) -> Adapter | None:
        """`adapter`, of another method, as one of this that does the same, where that is known without its delta."""
        return None

    def filled(self, model: nn.Module, adapter: Adapter) -> DynamicCache:
        """What it puts in front of a decoder's text, as a cache. Raises `Unsupported` where none says it."""
        raise NotImplementedError

    def holding(self, model: nn.Module, adapter: Adapter, cache: DynamicCache) -> Adapter:
        """`adapter`, fresh, with what a decoder's cache holds as its own. Raises `Unsupported` where it can't be."""
        raise NotImplementedError

    def check_weight(self, weight: float) -> None:
        """Raises `UsageError` or `Unsupported` for a strength that this method can't be applied with."""
        weighting.number(weight, self.name)
