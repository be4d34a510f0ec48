"""What adapters do to weights, as operators: `deltas(adapter)` is a mapping from target path to D, W' = W + D.

Delta methods say D themselves. A transform T has D = T(W) - W, which is only known against the base. What has no
weight at all (prompts, bottlenecks) is refused. Changes of biases and whole replaced parameters stand beside D.
The way back is `adaptr.results.assemble`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from adaptr import plugins
from adaptr.adapter import Adapter, Target
from adaptr.adapter.tensors import Plain
from adaptr.algebra.difference import Difference
from adaptr.algebra.operator import Operator
from adaptr.algebra.sum import Sum
from adaptr.bulk.change import Layer
from adaptr.changes.plan import members
from adaptr.contract import REASONS
from adaptr.errors import NoDelta, TargetNotFound, phrases
from adaptr.models.weights import Weights, of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.checkpoint.open import Checkpoint
    from adaptr.contract import View


class Deltas(Mapping[str, Operator]):
    """Target path to operator, each made when it is asked for and not kept.

    `targets`: all places that change, those with a bias alone included. `biases`: target path to what is added to the
    bias there. `replaced`: parameter path to the whole new tensor.
    """

    def __init__(
        self,
        adapter: Adapter,
        layers: Mapping[str, tuple[Layer, ...]],
        replaced: Mapping[str, Tensor],
        weights: Weights | None,
    ) -> None:
        self.adapter, self._layers, self.replaced, self._weights = adapter, layers, replaced, weights
        self.targets: dict[str, Target] = {path: found[0].target for path, found in layers.items()}
        changed = [path for path, found in layers.items() if any(_has_weight(layer) for layer in found)]
        self._changed = dict.fromkeys(changed)

    def __getitem__(self, path: str) -> Operator:
        if path not in self._changed:
            raise TargetNotFound(
                f"adapter `{self.adapter.label}` changes no weight at `{path}`",
                hint="see what it changes with `adaptr inspect`",
            )
        layers = [layer for layer in self._layers[path] if _has_weight(layer)]
        if all(layer.method.can.delta for layer in layers):
            found = [_operator(layer) for layer in layers]
            return found[0] if len(found) == 1 else Sum(*found)
        before = after = self._base(path)
        for layer in layers:
            after = layer.merge(after)
        target = self.targets[path]
        rowwise = all(layer.by_rows for layer in layers)
        experts = target.stacked
        return Difference(before, after, target.shape, experts=experts, rowwise=rowwise)

    def __iter__(self) -> Iterator[str]:
        return iter(self._changed)

    def __len__(self) -> int:
        return len(self._changed)

    def __contains__(self, path: object) -> bool:
        return path in self._changed

    def sort(self, path: str) -> Hashable:
        """What the operator at a target is made by: those of the same sort differ in their values alone."""
        layers = self._layers[path]
        return tuple(
            (layer.method.name, repr(layer.target.config), layer.target.kind, layer.target.shape) for layer in layers
        )

    @cached_property
    def biases(self) -> dict[str, Tensor]:
        found = {path: self._shift(path) for path in self._layers}
        return {path: shift for path, shift in found.items() if shift is not None}

    def _shift(self, path: str) -> Tensor | None:
        """What is added to the bias at `path`, None for nothing."""
        layers = self._layers[path]
        if all(layer.method.can.adds for layer in layers):
            own = [shift for shift in map(_own_shift, layers) if shift is not None]
            return sum(own[1:], own[0]) if own else None
        before = after = self._base(path)
        for layer in layers:
            after = layer.merge(after)
        if after.bias is None:
            return None
        shift = after.bias if before.bias is None else after.bias - before.bias
        return shift if bool(shift.any()) else None

    def _base(self, path: str) -> View:
        assert self._weights is not None
        return self._weights(self.targets[path])


def deltas(adapter: Adapter, base: Checkpoint | nn.Module | None = None, *, weights: Weights | None = None) -> Deltas:
    """The changes that `adapter` makes, against `base` (an open checkpoint or a live model), which is looked at
    only where a method needs it. `weights`: what stands for those of a base that is not there.

    Raises `NoDelta` where there are none: a prompt or bottleneck, or a transform without its base; `ContentMismatch`
    for another base than the adapter was trained on.
    """
    layers: dict[str, tuple[Layer, ...]] = {}
    replaced = adapter.replaced
    for _, part, strength in members(adapter):
        for path, target in part.targets.items():
            layers[path] = (*layers.get(path, ()), Layer(part, target, strength(path)))
        replaced |= _whole(part, strength)
    for found in layers.values():
        for layer in found:
            _require_delta(layer, base is not None or weights is not None)
    wanted = any(_needs_base(layer) for found in layers.values() for layer in found)
    return Deltas(adapter, layers, replaced, of(base, adapter) if wanted and base is not None else weights)


def needs_base(adapter: Adapter) -> bool:
    """Whether nothing of what `adapter` does to weights is known without these."""
    own = [(part, part.targets.values()) for _, part, _ in members(adapter)]
    return all(not plugins.method(part.method).can.adds for part, places in own if places)


def _whole(part: Adapter, strength: Callable[[str], float]) -> dict[str, Tensor]:
    """The parameters that a part replaces. Raises `NoDelta` for one that it replaces half."""
    found = part.replaced
    for path in found:
        if strength(path) != 1.0:
            raise phrases.no_strength(path, part.label, strength(path), NoDelta)
    return found


def _require_delta(layer: Layer, based: bool) -> None:
    method = layer.method
    if not method.merges(method.config(layer.adapter.config)):
        reason, possible = REASONS[method.unmergeable], method.possible
        raise NoDelta(f"`{method.name}` of `{layer.adapter.label}` has no delta: {reason}", hint=possible)
    if not based and _needs_base(layer):
        raise NoDelta(
            f"`{method.name}` of `{layer.adapter.label}` has no delta of its own: what it does to a weight "
            "depends on that weight",
            hint="give the base, a checkpoint folder or a live model",
        )


def _needs_base(layer: Layer) -> bool:
    return not layer.method.can.adds


def _has_weight(layer: Layer) -> bool:
    return layer.target.weighted and layer.method.can.weighs


def _operator(layer: Layer) -> Operator:
    found: Operator = layer.method.operator(layer.target, layer.adapter.at(layer.target.path))
    return found * layer.weight


def _own_shift(layer: Layer) -> Tensor | None:
    p = _At(layer.adapter, layer.target.path)
    shift: Tensor | None = layer.method.shift(p, layer.method.config(layer.target.config), layer.weight)
    return shift


class _At(Plain):
    """The tensors at a target, read one by one: most methods have no bias, and need none of the others to say so."""

    def __init__(self, adapter: Adapter, path: str) -> None:
        self.adapter, self.path = adapter, path

    def __getitem__(self, name: str) -> Tensor:
        key = f"{self.path}:{name}"
        return self.adapter.at(self.path)[name] if self.adapter.quantization else self.adapter.tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.adapter.at(self.path))

    def __len__(self) -> int:
        return len(self.adapter.at(self.path))
