"""What a fresh adapter of a method is made of: tensors at targets, or other adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from adaptr.adapter import Adapter, Target
from adaptr.contract.declared import Declared
from adaptr.contract.live import Weighing
from adaptr.contract.settings import C
from adaptr.contract.view import View
from adaptr.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.targets import Spec


class Member(NamedTuple):
    """An adapter inside another one, and how strong it is at each path."""

    name: str
    adapter: Adapter
    strength: Callable[[str], float]


class Creation(Declared[C]):
    """What follows from `params` and the configuration alone, unless a method says otherwise."""

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        """Fill in configuration fields that follow from the model and from all the places together."""
        return values

    def accepts(self, model: nn.Module, target: Target) -> bool:
        """Whether a module that matches is one this method can use."""
        return True

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        """Configuration for one target where it depends on the place."""
        return values

    def together(self, model: nn.Module, targets: Sequence[Target]) -> Sequence[Target]:
        """All targets, in the order of the model, with what of their configurations follows from all of them and from
        their order, such as which of them share something: usually as they are. Of a `Sketch`, without torch.
        """
        return targets

    def axes(self, target: Target, cfg: C) -> dict[str, int]:
        """Sizes of axes that follow from target and configuration together. Raises `BadConfig` if they don't fit."""
        return {}

    def init_rule(self, param: str, target: Target) -> str:
        """How a tensor starts at a target."""
        return self.params[param].init

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors whose `init` is "custom", from the base and from those that are `made`."""
        return {}

    def begun(self, model: nn.Module, adapter: Adapter, seed: int) -> Adapter:
        """A fresh adapter with what of its tensors follows from all of its targets together, or from the model."""
        return adapter

    # ------------------------------------------------------------ made of others

    def parts(self, cfg: C) -> Mapping[str, tuple[str, Spec, Mapping[str, Any]]]:
        """Of an arrangement of other methods: part name to (method, targets or None for its default, configuration)."""
        return {}

    def mix(self, x: Tensor, p: Weighing, cfg: C) -> Tensor:
        """Of a gate: the experts' weights at one layer from its input."""
        raise Unsupported(f"`{self.name}` weighs no other adapters", hint="choose a gate")

    def members(self, adapter: Adapter) -> list[Member]:
        """The adapters that `adapter` is made of, in their order, with their strengths: usually itself."""
        return [Member("", adapter, lambda path: 1.0)]

    def over(self, model: nn.Module | None, children: Adapter, config: Mapping[str, Any], seed: int = 0) -> Adapter:
        """A fresh adapter over others, which `children` has as its parts. `model`: the base, None where unknown."""
        raise UsageError(f"`{self.name}` is made of no other adapters", hint="leave `children` out")
