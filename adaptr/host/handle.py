"""What attaching and training give: a way to weigh the adapter, and to take it off again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

from torch import Tensor, nn

from adaptr import plugins
from adaptr.adapter import TAKEN, Adapter
from adaptr.errors import UsageError
from adaptr.host.composed import CACHE
from adaptr.host.draws import Draws
from adaptr.host.entrance import Entrance
from adaptr.host.gradients import Gradients
from adaptr.host.replace import Replacement
from adaptr.host.state import State

Undo = Callable[[], None]


class Handle:
    """An adapter on a model. `detach()` takes it off; a `with` block does so at its end.

    `given`: a place of the model to what the adapter that was given calls it, where that is another name.
    """

    def __init__(self, model: nn.Module, adapter: Adapter, key: str) -> None:
        self.model, self.adapter, self.key = model, adapter, key
        self.states: dict[str, State] = {}
        self.hosts: dict[str, nn.Module] = {}
        self.replacements: dict[str, Replacement] = {}
        self.strength = 1.0
        self.given: dict[str, str] = {}
        self.entrance: Entrance | None = None
        self.draws = Draws()
        self._undo: list[Undo] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    @property
    def weight(self) -> float:
        """The strength: 1 is as trained, 0 is the base. Setting it takes effect at the next forward."""
        return self.strength

    @weight.setter
    def weight(self, value: float) -> None:
        self.weigh(lambda path: value)
        self.strength = value

    def weigh(self, by: Callable[[str], float]) -> None:
        """Set the strength at each path: of targets, and of parameters that are replaced. All or nothing."""
        self._check_strengths(by)
        self._set_strengths(by)

    def _check_strengths(self, by: Callable[[str], float]) -> None:
        found = {(state.method, by(self._given(state.target.path))) for state in self.states.values()}
        for method, value in found:
            method.check_weight(value)

    def _set_strengths(self, by: Callable[[str], float]) -> None:
        for path, state in self.states.items():
            value = by(self._given(state.target.path))
            if state.strength != value:
                state.__dict__["strength"] = value  # past nn.Module's own way of setting, for hundreds of layers
                if not state.heeded:
                    self.hosts[path].__dict__.pop(CACHE, None)
        for path, replacement in self.replacements.items():
            replacement.blend(by(self._given(path)))

    def _given(self, path: str) -> str:
        """What the adapter called a place of the model when it was given: strengths are said by those names."""
        return self.given.get(path, path)

    def __deepcopy__(self, memo: Any) -> Self:
        raise UsageError("what is attached belongs to one model: copy the model, which takes the adapters along")

    def detach(self) -> None:
        """Take the adapter off. Calling it again does nothing."""
        while self._undo:
            self._undo.pop()()
        self.states, self.hosts, self.replacements = {}, {}, {}


class Session(Handle):
    """A `Handle` whose tensors learn. `steps` taken so far; `memory`: what the method keeps between steps.

    Where the method has a schedule both are those of the adapter, which `adapted` gives them back to: training that is
    saved, loaded and continued is training that was never interrupted.
    """

    def __init__(self, model: nn.Module, adapter: Adapter, key: str) -> None:
        super().__init__(model, adapter, key)
        self.scheduled: bool = plugins.method(adapter.method).can.schedule
        self.steps: int = adapter.training.get(TAKEN, 0) if self.scheduled else 0
        self.gradients: Gradients | None = None
        self.memory: dict[str, Tensor] = dict(adapter.memory)

    def parameters(self) -> Iterator[nn.Parameter]:
        """What an optimiser gets: the adapter's own tensors and replaced parameters, nothing else."""
        own = (p for state in self.states.values() for p in state.parameters() if p.requires_grad)
        yield from {id(p): p for p in own}.values()  # one that several targets share is there once
        yield from (r.value for r in self.replacements.values() if r.value.requires_grad)

    def after_step(self) -> None:
        """Called after each optimiser step and before the gradients are cleared; methods with a schedule work here."""
        self.steps += 1
        if self.gradients is not None:
            self.gradients.check()
        plugins.method(self.adapter.method).after_step(self)

    def penalty(self) -> Tensor | float:
        """What the method wants added to the loss, 0.0 if nothing."""
        return plugins.method(self.adapter.method).penalty(self)

    def adapted(self) -> Adapter:
        """The adapter with its tensors as they are now."""
        tensors = {**self.adapter.tensors, **self._live(), **self._replaced()}
        made = self.adapter.replace(tensors=tensors)
        return self._progressed(made) if self.scheduled else made

    def _progressed(self, made: Adapter) -> Adapter:
        """`made` with how far the schedule is, and what the method goes on by."""
        found = plugins.method(self.adapter.method).remembered(self)
        memory = {key: tensor.detach().clone() for key, tensor in found.items()}
        return made.replace(training={**made.training, TAKEN: self.steps}).remembering(memory)

    def _live(self) -> dict[str, Tensor]:
        live = {state.key(name): state[name] for state in self.states.values() for name in state.learning}
        return {key: tensor.detach().clone() for key, tensor in live.items()}

    def _replaced(self) -> dict[str, Tensor]:
        return {f"{path}:=": replacement.learned() for path, replacement in self.replacements.items()}
