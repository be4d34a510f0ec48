"""Composite methods: a fixed arrangement of other methods, trained and attached together.

The author supplies `parts(cfg)`: part name to (method name, its targets, its configuration). Each hook asks the parts.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr import plugins
from adaptr.adapter import Adapter, Target
from adaptr.adapter.weighting import Layers, Weight
from adaptr.contract import Capabilities, Member, Run, View
from adaptr.contract.settings import C
from adaptr.errors import NotMergeable, Unsupported, UsageError
from adaptr.families import fidelity
from adaptr.families.base import Method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.host import Session
    from adaptr.targets import Spec

Parts = Mapping[str, tuple[str, "Spec", Mapping[str, Any]]]
#: What an arrangement can if each of its parts can, and if one of them can: see `Capabilities`.
EACH = ("adds", "identity", "rowwise", "colwise", "inverse", "portable", "row")
SOME = ("weighs", "learns")


class Composite(Method[C]):
    """Children of several methods that belong together."""

    family: ClassVar[str] = "composite"
    formulas: ClassVar[tuple[str, ...]] = ("parts|members",)
    identity: ClassVar[bool] = False

    def parts(self, cfg: C) -> Parts:
        """Part name to (method, targets or None for its default, configuration); none where they are given."""
        return {}

    def capabilities(self) -> Capabilities:
        """What its parts can; one that is made over others, which nobody knows before, says what it does with any."""
        own = super().capabilities()
        parts = [plugins.method(name).can for name, _, _ in self.parts(self.Config()).values()]
        if not parts or self.unmergeable:
            return own
        each = {what: all(getattr(one, what) for one in parts) for what in EACH}
        some = {what: any(getattr(one, what) for one in parts) for what in SOME}
        return Capabilities(**{**vars(own), **each, **some})

    def merges(self, cfg: C) -> bool:
        inner = [(plugins.method(name), said) for name, _, said in self.parts(cfg).values()]
        return super().merges(cfg) and all(one.merges(one.config(said)) for one, said in inner)

    def weights(self, adapter: Adapter) -> Mapping[str, Weight]:
        """Part name to its weight, in the order in which the parts are applied."""
        return dict.fromkeys(adapter.parts, 1.0)

    def members(self, adapter: Adapter) -> list[Member]:
        layers = Layers(target.path for _, target in adapter.all_targets)
        return [
            Member(name, adapter.part(name), functools.partial(layers.weight, weight, label=name))
            for name, weight in self.weights(adapter).items()
        ]

    def create(
        self,
        model: nn.Module,
        targets: Spec = None,
        config: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        seed: int = 0,
    ) -> Adapter:
        self._untargeted(targets)
        cfg = self.config(self.complete(model, dict(config or {}), []))
        children = {}
        for number, (name, (method, spec, values)) in enumerate(self._parts(cfg).items()):
            made = plugins.method(method).create(model, spec, values, overrides, seed + number)
            if made.parts:
                raise Unsupported(
                    f"`{method}`, a part of `{self.name}`, is made of other adapters itself",
                    hint=f"name those: {'+'.join(made.parts)}",
                )
            children[name] = made
        first = next(iter(children.values()))
        empty = Adapter(
            self.name, dataclasses.asdict(cfg), {}, {}, self.version, base=dataclasses.replace(first.base, content="")
        )
        return self.begun(model, empty.with_parts(children), seed)

    def outline(
        self, model: nn.Module, targets: Spec = None, config: Mapping[str, Any] | None = None
    ) -> list[tuple[Method, Target]]:
        self._untargeted(targets)
        parts = self._parts(self.config(self.complete(model, dict(config or {}), []))).values()
        return [one for name, spec, values in parts for one in plugins.method(name).outline(model, spec, values)]

    def _untargeted(self, targets: Spec) -> None:
        if targets is not None:
            raise UsageError(
                f"`{self.name}` says itself where each of its parts goes",
                hint="leave `targets` out; those of `lora+prefix` can be named for each: `lora.targets`",
            )

    def _parts(self, cfg: C) -> Parts:
        """What it arranges. Raises `UsageError` where that must be given."""
        found = self.parts(cfg)
        if not found:
            raise UsageError(f"`{self.name}` is made of other adapters", hint="give them as `children={name: adapter}`")
        return found

    def objective(self, session: Session, run: Run) -> Tensor:
        """Each part's own, one through the other; what they add to the loss is in it."""
        return session.through(run)

    def materialised(self, adapter: Adapter) -> Adapter:
        every = {name: adapter.part(name) for name in adapter.parts}
        made = {name: plugins.method(one.method).materialised(one) for name, one in every.items()}
        return adapter if all(made[name] is one for name, one in every.items()) else adapter.with_parts(made)

    def merge(self, adapter: Adapter, target: Target, base: View, weight: float) -> View:
        return merged(self, adapter, target, base, weight)

    def unmerge(
        self, adapter: Adapter, target: Target, merged: View, kept: Mapping[str, Tensor], weight: float
    ) -> View:
        return unmerged(self, adapter, target, merged, kept, weight)

    def quantize(self, adapter: Adapter, scheme: str) -> Adapter:
        return quantized(self, adapter, scheme)


def merged(method: Method, adapter: Adapter, target: Target, base: View, weight: float) -> View:
    """The parts at `target`, one on the other, each at its strength."""
    here = _here(method, adapter, target)
    if not here:
        raise NotMergeable(adapter.method, f"it has no part at `{target.path}`", "its own targets")
    for _, child, strength in here:
        strong, own = weight * strength(target.path), child.targets[target.path]
        base = plugins.hooks(child.method).merge(adapter=child, target=own, base=base, weight=strong)
    return base


def unmerged(
    method: Method, adapter: Adapter, target: Target, above: View, kept: Mapping[str, Tensor], weight: float
) -> View:
    """The layer below all parts at `target`."""
    for _, child, strength in reversed(_here(method, adapter, target)):
        strong, own = weight * strength(target.path), child.targets[target.path]
        hooks = plugins.hooks(child.method)
        above = hooks.unmerge(adapter=child, target=own, merged=above, kept=kept, weight=strong)
    return above


def _here(method: Method, adapter: Adapter, target: Target) -> list[Member]:
    return [member for member in method.members(adapter) if target.path in member.adapter.targets]


def quantized(method: Method, adapter: Adapter, scheme: str) -> Adapter:
    """All parts in `scheme`, and the error of their sum where that is all they make, else the worst of theirs."""
    return requantized(method, adapter, scheme, lambda part: _quantized(part, scheme))


def _quantized(part: Adapter, scheme: str) -> Adapter:
    made: Adapter = plugins.hooks(part.method).quantize(adapter=part, scheme=scheme)
    return made


def requantized(method: Method, adapter: Adapter, scheme: str, each: Callable[[Adapter], Adapter]) -> Adapter:
    """`adapter` of what `each` makes of its parts, called `scheme`, with the error that it has."""
    children = {name: each(adapter.part(name)) for name in adapter.parts}
    made = adapter.with_parts(children).replace(quantization={"scheme": scheme})
    made = made.replace(tensors={**adapter.own, **made.tensors})
    sums = fidelity.summed(method, adapter)
    said = fidelity.declared(method, adapter, made) if sums else fidelity.of_parts(children)
    return made.replace(quantization={"scheme": scheme, **said})
