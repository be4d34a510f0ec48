"""Where a forward begins and ends: two hooks on a model and on each stack of it that may be called alone.

One `Entrance` a model, for all adapters on it that want a context; it goes with the last of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from adaptr.host import generating
from adaptr.host.call import carry, carry_no_more, checkpointed, find, put, reentrant, take
from adaptr.host.context import CARRIED, Context
from adaptr.host.generating import Began

if TYPE_CHECKING:
    from adaptr.host.draws import Draws
    from adaptr.host.state import State

SLOT = "_adaptr_entrance"


class Frame(NamedTuple):
    """A context, by which door it was entered, and what was there before."""

    context: Context
    door: Door
    before: Frame | None


class Entrance:
    """The doors of one model, and the draws of the adapters on it. It is what a context is found by."""

    def __init__(self, model: nn.Module) -> None:
        self.states: list[State] = []  # the first of each adapter, and the first that trains
        self.blocks = checkpointed(model)
        stacks = [m for m in model.modules() if m is model or hasattr(m, "get_input_embeddings")]
        self.generating = generating.of(model)
        self._hooks = [hook for stack in stacks for hook in Door(self, stack).put(stack)]

    def trains(self, draws: Draws) -> bool:
        """Whether forwards are numbered for these draws, while what draws them is in training."""
        return any(state.draws is draws and state.training for state in self.states)

    def now(self) -> Context | None:
        """The context of the forward that this thread is in."""
        frame: Frame | None = find(self)
        return None if frame is None else frame.context

    def begun(self, module: nn.Module, given: dict[str, Any], two: bool) -> Context:
        """The context of a forward that nothing is around. Numbered for what trains: evaluating changes no draw."""
        drawn = dict.fromkeys(state.draws for state in self.states if state.training)
        numbers = {draws: draws.next() for draws in drawn}
        again = module.training and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if again:
            carry(self.blocks)
        return Context(given, two, numbers, again and reentrant(self.blocks))

    def invocation(self) -> Began | None:
        """That of `generate` which this forward is a step of."""
        return None if self.generating is None else self.generating.now()

    def close(self) -> None:
        if self.generating is not None:
            self.generating.remove()
        for hook in self._hooks:
            hook.remove()
        carry_no_more(self.blocks)


class Door:
    """The two hooks of one module."""

    def __init__(self, entrance: Entrance, module: nn.Module) -> None:
        self.entrance = entrance
        self.names = list(inspect.signature(type(module).forward).parameters)[1:]
        self.two = "decoder_input_ids" in self.names

    def put(self, module: nn.Module) -> tuple[Any, Any]:
        return (
            module.register_forward_pre_hook(self.enter, with_kwargs=True, prepend=True),
            module.register_forward_hook(self.leave, with_kwargs=True, always_call=True),
        )

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = {**dict(zip(self.names, args, strict=False)), **kwargs}
        before: Frame | None = find(self.entrance)
        if before is None:
            context = self.entrance.begun(module, given, self.two)
        else:
            context = before.context.within(given, self.two)
        self._begin(context)
        put(self.entrance, Frame(context, self, before))

    def _begin(self, context: Context) -> None:
        """Tell a context of this door how long the text was that the invocation began with: a cache knows itself."""
        began = self.entrance.invocation()
        if began is not None and context.began is None and context.cache is None and context.has_tokens:
            context.began = began.setdefault(self, context.shape[1])

    def leave(self, module: nn.Module, args: object, kwargs: object, output: object) -> None:
        frame: Frame | None = take(self.entrance)
        if frame is None or frame.door is not self:  # entering has failed
            if frame is not None:
                put(self.entrance, frame)
            return
        if frame.before is not None:
            put(self.entrance, frame.before)
        context = frame.context
        for cache in (context.cache, getattr(output, "past_key_values", None)):  # the stack may have made it itself
            if context.left and cache is not None:
                setattr(cache, CARRIED, {**context.carried, **context.left})
        if context.told and frame.before is None and hasattr(output, "last_hidden_state"):
            setattr(output, CARRIED, context.told)  # of an encoder alone, for the decoder that reads it


def open_for(model: nn.Module, state: State) -> tuple[Entrance, Callable[[], None]]:
    """The entrance of `model`, which numbers forwards while `state` trains; and how to take leave of it."""
    entrance: Entrance = model.__dict__.get(SLOT) or model.__dict__.setdefault(SLOT, Entrance(model))
    entrance.states.append(state)

    def undo() -> None:
        entrance.states = [other for other in entrance.states if other is not state]
        if not entrance.states:
            entrance.close()
            model.__dict__.pop(SLOT, None)

    return entrance, undo


def renew(model: nn.Module) -> None:
    """Let what follows in this forward be a pass of its own; who asked restores the chain."""
    entrance: Entrance | None = model.__dict__.get(SLOT)
    frame: Frame | None = None if entrance is None else find(entrance)
    if frame is not None:
        put(entrance, frame._replace(context=frame.context.renewed()))
