"""Attaching the parts of a composite as one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.host.attach import Handle, Session
from adaptr.host.replace import Replacement, replaceable


class Group(Handle):
    """Several handles that come and go together, and the parameters that their composite replaces."""

    def __init__(self, model: nn.Module, adapter: Adapter, children: dict[str, Any], weight: float = 1.0) -> None:
        super().__init__(model, adapter, adapter.method)
        self.children, self.strength = children, weight
        self.states = {f"{n}:{path}": s for n, c in children.items() for path, s in c.states.items()}
        self._undo = [child.detach for child in children.values()]
        learns = isinstance(self, Session)
        for path, tensor in adapter.replaced.items():
            self.replacements[path] = replacement = Replacement(model, path, tensor, weight, learns)
            self._undo.append(replacement.undo)


class GroupSession(Group, Session):
    """Several sessions that learn together."""

    def after_step(self) -> None:
        for child in self.children.values():
            child.after_step()

    def penalty(self) -> Tensor | float:
        total: Tensor | float = sum(child.penalty() for child in self.children.values())
        return total

    def adapted(self) -> Adapter:
        own = self.adapter.replace(tensors=self._replaced())
        return own.with_parts({name: child.adapted() for name, child in self.children.items()})


def attach(model: nn.Module, adapter: Adapter, weight: float) -> Group:
    """Attach all parts, or none."""
    return Group(model, adapter, _each(adapter, "apply", model=model, weight=weight), weight)


def train(model: nn.Module, adapter: Adapter) -> GroupSession:
    """Train all parts, or none. Each part freezes all that is there, parts before it too: they are unfrozen again."""
    session = GroupSession(model, adapter, _each(adapter, "train", model=model))
    for state in session.states.values():
        for name in state.learning:
            state[name].requires_grad_(True)
    return session


def _each(adapter: Adapter, verb: str, **arguments: Any) -> dict[str, Any]:
    children: dict[str, Any] = {}
    for path, tensor in adapter.replaced.items():
        replaceable(arguments["model"], path, tensor)
    try:
        for name, part in adapter.parts.items():
            hook = getattr(plugins.hooks(part.method), verb)
            children[name] = hook(adapter=adapter.part(name), **arguments)
    except Exception:
        for child in reversed(list(children.values())):
            child.detach()
        raise
    return children
