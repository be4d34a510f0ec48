"""Attaching the parts of a composite as one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.contract import Group as Params
from adaptr.contract import Phase, Run
from adaptr.contract.lifecycle import phase_at
from adaptr.host.handle import Handle
from adaptr.host.names import current, formerly
from adaptr.host.replace import replaceable, replacements
from adaptr.host.session import Session

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
        for path, replacement in replacements(model, adapter, weight, learns):
            self.replacements[path] = replacement
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
    """Several sessions that learn together. Each part keeps its own course; a phase ends where one of a part's does."""

    children: dict[str, Session]  # type: ignore[assignment]

    def named(self) -> dict[str, nn.Parameter]:
        own = {f"{path}:=": p for path, r in self.replacements.items() if (p := r.learning) is not None}
        found = ((name, key.rpartition(":"), p) for name, c in self.children.items() for key, p in c.named().items())
        return {**{f"{path}{colon}{name}.{param}": p for name, (path, colon, param), p in found}, **own}

    def _groups(self) -> list[Params]:
        own = [p for r in self.replacements.values() if (p := r.learning) is not None]
        return [*(g for c in self.children.values() for g in self._rated(c)), *([Params(own)] if own else [])]

    def _rated(self, child: Session) -> Iterator[Params]:
        """Those of a part, at its own method's rate in proportion to the composite's."""
        faster = child.method.rate / self.method.rate
        return (group._replace(rate=group.rate * faster) for group in child.groups())

    def prepare(self, data: Iterable[Run] = ()) -> None:
        runs = list(data)
        for child in self.children.values():
            child.prepare(runs)

    def phases(self) -> list[Phase]:
        ends = sorted({end for child in self.children.values() for end in _ends(child.phases())})
        return [Phase(str(n), end - start) for n, (start, end) in enumerate(pairwise([0.0, *ends]), 1)]

    def begin(self, number: int) -> None:
        self.phase = number
        before = sum(phase.share for phase in self.phases()[:number])
        for child in self.children.values():
            child.begin(phase_at(child.phases(), before))

    def through(self, run: Run) -> Tensor:
        """The first part's objective of the second's, and so on: each may run the batch more than once."""
        for child in self.children.values():
            run = functools.partial(_through, child, run)
        return run()[0]

    def objective(self, run: Run) -> Tensor:
        return self.method.objective(self, run)

    def penalty(self) -> Tensor | float:
        total: Tensor | float = sum(child.penalty() for child in self.children.values())
        return total

    def after_step(self) -> None:
        self.steps += 1
        for child in self.children.values():
            child.after_step()
        self.method.after_step(self)

    def adapted(self) -> Adapter:
        return self._with({name: child.adapted() for name, child in self.children.items()})

    def finish(self) -> Adapter:
        return self.method.finish(self, self._with({name: child.finish() for name, child in self.children.items()}))

    def _with(self, parts: dict[str, Adapter]) -> Adapter:
        own = self.adapter.replace(tensors=self._replaced())
        # under the names by which the composite says how strong its parts are
        return own.with_parts({name: part.renamed(self.children[name].given) for name, part in parts.items()})

    def state(self) -> dict[str, Any]:
        own = {f"{path}:=": r.value.detach().clone() for path, r in self.replacements.items()}
        parts = {name: child.state() for name, child in self.children.items()}
        return {"steps": self.steps, "phase": self.phase, "tensors": own, "parts": parts}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.steps, self.phase = state["steps"], state["phase"]
        with torch.no_grad():
            for path, replacement in self.replacements.items():
                replacement.value.copy_(state["tensors"][f"{path}:="])
        for name, child in self.children.items():
            child.load_state(state["parts"][name])


def leaves_of(handle: Handle) -> Iterator[Handle]:
    """The handles that have states of their own: itself, or those of all parts."""
    if isinstance(handle, Group):
        for child in handle.children.values():
            yield from leaves_of(child)
    else:
        yield handle


def _ends(phases: Sequence[Phase]) -> list[float]:
    """Where phases end, as shares of the whole."""
    total = sum(phase.share for phase in phases)
    return [round(end / total, 9) for end in accumulate(phase.share for phase in phases)]


def _through(child: Session, run: Run) -> tuple[Tensor, Any]:
    """One forward as a part has it: its objective, and the last output that went into it."""
    outputs: list[Any] = []

    def once() -> tuple[Tensor, Any]:
        loss, output = run()
        outputs.append(output)
        return loss, output

    return child.objective(once), outputs[-1]


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
