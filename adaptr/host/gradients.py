"""Whether all that should learn does: looked at once, when the first backward of a training session has ended.

A tensor that took part has a gradient, be it zero; None says that the loss does not depend on it. Layers that did not
run in that forward (experts without tokens, dropped layers, another branch) are not asked. Where gradients are taken
without `backward`, there is nothing to see and nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from adaptr.errors import Unsupported
from adaptr.host.composed import CACHE
from adaptr.host.state import State

if TYPE_CHECKING:
    from adaptr.host.session import Session


class Gradients:
    """Hooks on the model of a session, until they have seen one backward."""

    def __init__(self, session: Session) -> None:
        self.model, self.label = session.model, session.adapter.label
        self.sites = [(path, session.hosts[path], state) for path, state in session.states.items()]
        self._waits = False
        self._hooks = [
            self.model.register_forward_pre_hook(_Own(self._before)),
            self.model.register_forward_hook(_Own(self._after)),
        ]

    def _before(self, model: nn.Module, args: object) -> None:
        for _, host, _ in self.sites:  # what runs makes its View anew
            host.__dict__.pop(CACHE, None)

    def _after(self, model: nn.Module, args: object, output: object) -> None:
        for tensor in _tensors(output):
            if tensor.requires_grad and not torch._C._functorch.is_functorch_wrapped_tensor(tensor):
                tensor.register_hook(self._begins)  # type: ignore[no-untyped-call]

    def _begins(self, grad: Tensor) -> None:
        """A backward has begun at the model's output; inner ones of checkpointed blocks don't come here."""
        if not self._waits:
            self._waits = True
            torch.autograd.Variable._execution_engine.queue_callback(self._ended)

    def _ended(self) -> None:
        self._waits = False
        self.check()

    def check(self) -> None:
        """Raises `Unsupported` where a tensor of a layer that ran has no gradient while others have one."""
        if not self._hooks:  # seen before
            return
        learning = [(path, host, state, name) for path, host, state in self.sites for name in state.learning]
        if not any(state[name].grad is not None for _, _, state, name in learning):
            return
        self.remove()
        idle = [
            f"{path}:{name}" for path, host, state, name in learning if state[name].grad is None and _ran(host, state)
        ]
        if idle:
            raise Unsupported(
                f"`{self.label}`: after the first backward {len(idle)} of {len(learning)} trained tensors have "
                "no gradient, as the loss does not depend on them: "
                f"{', '.join(idle[:4])}{(' ...' if idle[4:] else '')}",
                hint="leave their layers out of the targets",
            )

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


class _Own:
    """A hook that stays with the session's model: copies have one that does nothing."""

    def __init__(self, then: Callable[..., None]) -> None:
        self.then = then

    def __call__(self, *args: object) -> None:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self.then(*args)

    def __reduce__(self) -> tuple[object, ...]:
        return _Own, (_nothing,)


def _ran(host: nn.Module, state: State) -> bool:
    return state.site.shows and state.strength != 0 and CACHE in host.__dict__


def _nothing(*_: object) -> None:
    pass


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        yield from (t for value in output.values() for t in _tensors(value))
    elif isinstance(output, list | tuple):
        yield from (t for value in output for t in _tensors(value))
