"""Attaching the parts of a composite as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.host.handle import Handle, Session
from adaptr.host.names import current, formerly
from adaptr.host.replace import Replacement, replaceable

if TYPE_CHECKING:
    from adaptr.families.base import Method

Strength = Callable[[str], float]


class Group(Handle):
    """Several handles that come and go together, and the parameters that their composite replaces.

    `strengths`: how strong each is at a path inside the composite, whose own weight multiplies that.
    """

    def __init__(
        self,
        model: nn.Module,
        adapter: Adapter,
        children: dict[str, Handle],
        weight: float = 1.0,
        strengths: dict[str, Strength] | None = None,
    ) -> None:
        super().__init__(model, adapter, adapter.method)
        self.children, self.strength, self.strengths = children, weight, strengths or {}
        self.states = {f"{n}:{path}": s for n, c in children.items() for path, s in c.states.items()}
        self._undo = [child.detach for child in children.values()]
        learns = isinstance(self, Session)
        for path, tensor in adapter.replaced.items():
            self.replacements[path] = replacement = Replacement(model, path, tensor, weight, learns)
            self._undo.append(replacement.undo)

    def _check_strengths(self, by: Strength) -> None:
        for name, child in self.children.items():
            child._check_strengths(self._inside(name, by))

    def _set_strengths(self, by: Strength) -> None:
        for name, child in self.children.items():
            child._set_strengths(self._inside(name, by))
        for path, replacement in self.replacements.items():
            replacement.blend(by(self._given(path)))

    def _inside(self, name: str, by: Strength) -> Strength:
        own = self.strengths.get(name)
        return by if own is None else lambda path: own(path) * by(path)


class GroupSession(Group, Session):
    """Several sessions that learn together."""

    children: dict[str, Session]  # type: ignore[assignment]

    def after_step(self) -> None:
        for child in self.children.values():
            child.after_step()

    def penalty(self) -> Tensor | float:
        total: Tensor | float = sum(child.penalty() for child in self.children.values())
        return total

    def adapted(self) -> Adapter:
        own = self.adapter.replace(tensors=self._replaced())
        # under the names by which the composite says how strong its parts are
        return own.with_parts({name: child.adapted().renamed(child.given) for name, child in self.children.items()})


def attach(model: nn.Module, method: Method, adapter: Adapter, weight: float) -> Group:
    """Attach all parts, or none."""
    given, adapter = adapter, current(model, adapter)
    strengths = {m.name: m.strength for m in method.members(adapter)}
    group = Group(model, adapter, _each(method, adapter, "apply", model=model, weight=1.0), weight, strengths)
    group.given = formerly(adapter, given)
    try:
        group.weigh(lambda path: weight)
    except BaseException:
        group.detach()
        raise
    return group


def train(model: nn.Module, method: Method, adapter: Adapter) -> GroupSession:
    """Train all parts, or none. Each part freezes all that is there, parts before it too: they are unfrozen again."""
    given, adapter = adapter, current(model, adapter)
    strengths = {m.name: m.strength for m in method.members(adapter)}
    session = GroupSession(model, adapter, _each(method, adapter, "train", model=model), strengths=strengths)
    session.given = formerly(adapter, given)
    session.weigh(lambda path: 1.0)
    for state in session.states.values():
        for name in state.learning:
            state[name].requires_grad_(True)
    return session


def _each(method: Method, adapter: Adapter, verb: str, **arguments: Any) -> dict[str, Any]:
    children: dict[str, Any] = {}
    for path, tensor in adapter.replaced.items():
        replaceable(arguments["model"], path, tensor)
    try:
        for name, child, _ in method.members(adapter):
            hook = getattr(plugins.hooks(child.method), verb)
            # parts of a composite without a name have none either: two such may meet on one model
            children[name] = hook(adapter=child if adapter.name else child.replace(name=""), **arguments)
    except Exception:
        for handle in reversed(list(children.values())):
            handle.detach()
        raise
    return children
