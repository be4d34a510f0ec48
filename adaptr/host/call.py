"""What belongs to one call of a model and not to the model: each thread finds its own, so that calls don't mix.

A chain of (owner, value, rest), never changed but replaced, so that all of it is one reference: what a checkpointed
block computes once more, in whatever thread, is given the chain that was there the first time.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

#: (owner, value, what was there before) or None.
Chain = tuple[Any, Any, Any] | None
# plain: neither a subclass with a default nor a ContextVar that is set inside of a forward can be compiled
_NOW = threading.local()
CHECKPOINT = "_gradient_checkpointing_func"  # where transformers keeps, on each block, what checkpoints it


def chain() -> Chain:
    """All that belongs to the call that this thread is in."""
    found: Chain = getattr(_NOW, "chain", None)
    return found


def restore(before: Chain) -> None:
    """Let `before` be all there is."""
    _NOW.chain = before


def put(owner: object, value: object) -> Chain:
    """Let `owner` find `value`, and nothing older, in this call; returns what to `restore` when it is over."""
    before = chain()
    _NOW.chain = (owner, value, _without(before, owner))
    return before


def find(owner: object) -> Any:
    """What was put for `owner`, or None."""
    link = chain()
    while link is not None:
        if link[0] is owner:
            return link[1]
        link = link[2]
    return None


def take(owner: object) -> Any:
    """What was put for `owner`, or None; it is not found again."""
    found = find(owner)
    _NOW.chain = _without(chain(), owner)
    return found


def _without(link: Chain, owner: object) -> Chain:
    if link is None or link[0] is owner:
        return None if link is None else link[2]
    return link[0], link[1], _without(link[2], owner)


class Carrying:
    """A block's checkpoint function, which gives the recomputation what belonged to the call."""

    def __init__(self, checkpoint: Callable[..., Any]) -> None:
        self.checkpoint = checkpoint

    def __call__(self, function: Callable[..., Any], *args: object, **kwargs: object) -> Any:
        import torch

        if not torch.is_grad_enabled():  # nothing will be computed once more, of which some ways of doing so warn
            return function(*args)
        if torch.compiler.is_compiling():  # one graph: what belongs to the call is in it
            return self.checkpoint(function, *args, **kwargs)
        return self.checkpoint(functools.partial(_within, function, adaptr_chain=chain()), *args, **kwargs)


def _within(function: Callable[..., Any], *args: object, adaptr_chain: Chain) -> Any:
    with Restored(adaptr_chain):
        return function(*args)


class Restored:
    """While it is entered, what belonged to another call is all there is."""

    def __init__(self, then: Chain) -> None:
        self.then = then

    def __enter__(self) -> None:
        self.before = chain()
        restore(self.then)

    def __exit__(self, *_: object) -> None:
        restore(self.before)


def checkpointing() -> tuple[Restored, Restored]:
    """`context_fn` for code that calls `torch.utils.checkpoint.checkpoint` itself: recomputing finds what was there."""
    return Restored(chain()), Restored(chain())


def checkpointed(model: nn.Module) -> list[nn.Module]:
    """The blocks of a model that can be checkpointed."""
    return [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]


def carry(blocks: Iterable[nn.Module]) -> None:
    """Let those of `blocks` that are checkpointed now do it so; recomputing may be switched on at any time."""
    for module in blocks:
        found = module.__dict__.get(CHECKPOINT)
        if found is not None and not isinstance(found, Carrying):
            module.__dict__[CHECKPOINT] = Carrying(found)


def reentrant(blocks: Iterable[nn.Module]) -> bool:
    """Whether some of `blocks` are checkpointed so that each runs a backward of its own."""
    at_work = (m for m in blocks if m.training and getattr(m, "gradient_checkpointing", False))
    return any(_is_reentrant(block.__dict__.get(CHECKPOINT)) for block in at_work)


def _is_reentrant(checkpoint: object) -> bool:
    inner = checkpoint.checkpoint if isinstance(checkpoint, Carrying) else checkpoint
    return isinstance(inner, functools.partial) and bool(inner.keywords.get("use_reentrant"))


def carry_no_more(blocks: Iterable[nn.Module]) -> None:
    """Undo `carry`."""
    for module in blocks:
        found = module.__dict__.get(CHECKPOINT)
        if isinstance(found, Carrying):
            module.__dict__[CHECKPOINT] = found.checkpoint
