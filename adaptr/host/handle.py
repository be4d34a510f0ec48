"""What attaching and training give: a way to weigh the adapter, and to take it off again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

from adaptr.adapter import Adapter
from adaptr.errors import Unsupported, UsageError
from adaptr.host.call import put, restore
from adaptr.host.composed import CACHE
from adaptr.host.draws import Draws
from adaptr.host.entrance import Entrance
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

    @contextmanager
    def rows(self, strengths: Sequence[float] | Tensor) -> Iterator[None]:
        """While it is entered, in this thread: how strong the adapter is for each row of a batch, times its weight.

        Raises `Unsupported` where it reads no context, or sits where rows have no strength of their own.
        """
        for state in self.states.values():
            if not (state.mount.context and state.site.rows):
                raise Unsupported(
                    f"`{state.method.name}` at `{state.target.path}` has one strength for all rows",
                    hint="give each strength a forward, or serve the batch by `adaptr.pool`",
                )
        before = put(self.draws, torch.as_tensor(strengths))
        try:
            yield
        finally:
            restore(before)

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

    def renewed(self) -> None:
        """Have the Views of its places made anew."""
        for host in self.hosts.values():
            host.__dict__.pop(CACHE, None)

    def __deepcopy__(self, memo: object) -> Self:
        raise UsageError("what is attached belongs to one model", hint="copy the model, which takes the adapters along")

    def detach(self) -> None:
        """Take the adapter off. Calling it again does nothing."""
        while self._undo:
            self._undo.pop()()
        self.states, self.hosts, self.replacements = {}, {}, {}
