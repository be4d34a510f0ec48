"""Attaching the parts of a composite as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.host.attach import Handle, Session


class Group(Handle):
    """Several handles that come and go together."""

    def __init__(self, model: nn.Module, adapter: Adapter, children: dict[str, Any]) -> None:
        super().__init__(model, adapter, adapter.method)
        self.children = children
        self.states = {f"{n}:{path}": s for n, c in children.items() for path, s in c.states.items()}

    def detach(self) -> None:
        for child in reversed(list(self.children.values())):
            child.detach()
        self.children, self.states = {}, {}


class GroupSession(Group, Session):
    """Several sessions that learn together."""

    def parameters(self) -> Iterator[nn.Parameter]:
        for child in self.children.values():
            yield from child.parameters()

    def after_step(self) -> None:
        for child in self.children.values():
            child.after_step()

    def adapted(self) -> Adapter:
        return self.adapter.with_parts({name: child.adapted() for name, child in self.children.items()})


def attach(model: nn.Module, adapter: Adapter, weight: float) -> Group:
    """Attach all parts, or none."""
    return Group(model, adapter, _each(adapter, "apply", model=model, weight=weight))


def train(model: nn.Module, adapter: Adapter) -> GroupSession:
    """Train all parts, or none. Each part freezes the model and is itself unfrozen, so the flags end up right."""
    session = GroupSession(model, adapter, _each(adapter, "train", model=model))
    for parameter in session.parameters():
        parameter.requires_grad_(True)
    return session


def _each(adapter: Adapter, verb: str, **arguments: Any) -> dict[str, Any]:
    children: dict[str, Any] = {}
    try:
        for name, part in adapter.parts.items():
            hook = getattr(plugins.hooks(part.method), verb)
            children[name] = hook(adapter=adapter.part(name), **arguments)
    except Exception:
        for child in reversed(list(children.values())):
            child.detach()
        raise
    return children
