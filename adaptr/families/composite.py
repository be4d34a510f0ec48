"""Composite methods: a fixed arrangement of other methods, trained and attached together.

The author supplies `parts(cfg)`: part name to (method name, its targets, its configuration). Each hook asks the parts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr import plugins
from adaptr.adapter import Adapter, Target
from adaptr.errors import NotMergeable
from adaptr.families.base import Method
from adaptr.view import View

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.host import Handle, Session
    from adaptr.targets import Spec

Parts = Mapping[str, tuple[str, "Spec", Mapping[str, Any]]]


class Composite(Method):
    """Children of several methods that belong together."""

    family: ClassVar[str] = "composite"
    identity: ClassVar[bool] = False

    def parts(self, cfg: Any) -> Parts:
        """Part name to (method, targets or None for its default, configuration)."""
        raise NotImplementedError

    def create(
        self,
        model: nn.Module,
        targets: Spec = None,
        config: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        seed: int = 0,
    ) -> Adapter:
        cfg = self.config(config or {})
        children = {}
        for number, (name, (method, spec, values)) in enumerate(self.parts(cfg).items()):
            children[name] = plugins.method(method).create(model, spec, values, overrides, seed + number)
        first = next(iter(children.values()))
        empty = Adapter(
            self.name, dataclasses.asdict(cfg), {}, {}, self.version, base=dataclasses.replace(first.base, content="")
        )
        return empty.with_parts(children)

    def train(self, model: nn.Module, adapter: Adapter) -> Session:
        from adaptr.host.group import train

        return train(model, adapter)

    def apply(self, model: nn.Module, adapter: Adapter, weight: float) -> Handle:
        from adaptr.host.group import attach

        return attach(model, adapter, weight)

    def merge(self, adapter: Adapter, target: Target, base: View, weight: float) -> View:
        child, hooks = _owner(adapter, target)
        merged: View = hooks.merge(adapter=child, target=target, base=base, weight=weight)
        return merged

    def unmerge(
        self, adapter: Adapter, target: Target, merged: View, kept: Mapping[str, Tensor], weight: float
    ) -> View:
        child, hooks = _owner(adapter, target)
        below: View = hooks.unmerge(adapter=child, target=target, merged=merged, kept=kept, weight=weight)
        return below

    def quantize(self, adapter: Adapter, scheme: str) -> Adapter:
        children = {
            name: plugins.hooks(part.method).quantize(adapter=adapter.part(name), scheme=scheme)
            for name, part in adapter.parts.items()
        }
        worst = max((c.quantization["error"] for c in children.values()), default=0.0)
        return adapter.with_parts(children).replace(quantization={"scheme": scheme, "error": worst})


def _owner(adapter: Adapter, target: Target) -> tuple[Adapter, Any]:
    """The part that has `target`, and its hooks."""
    for name, part in adapter.parts.items():
        if part.targets.get(target.path) == target:
            return adapter.part(name), plugins.hooks(part.method)
    raise NotMergeable(adapter.method, f"it has no part at `{target.path}`", "its own targets")
