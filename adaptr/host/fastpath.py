"""torch's encoder layers run past their submodules in inference, as one kernel that is given their weights.

An adapter of weights is in what the kernel is given. One that works on outputs is not, so the kernel is kept away while
it is attached: it refuses layers with hooks, and its stacks make no nested tensors, which only the kernel understands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import nn

from adaptr.host.uses import above

HELD = "_adaptr_no_kernel"


def inside(model: nn.Module, path: str) -> list[nn.Module]:
    """The encoder layer that `path` is in and the stack above it, if there are any."""
    return [m for m in above(model, path) if isinstance(m, nn.TransformerEncoderLayer | nn.TransformerEncoder)]


def avoid(model: nn.Module, path: str, host: nn.Module) -> Callable[[], None]:
    """Let the layers around `path` call their submodules; returns how to undo it."""
    around = inside(model, path)
    if not any(isinstance(module, nn.TransformerEncoderLayer) for module in around):
        return lambda: None
    hook = host.register_forward_pre_hook(_nothing)
    stacks = [module for module in around if isinstance(module, nn.TransformerEncoder)]
    for stack in stacks:
        stack.__dict__.setdefault(HELD, [cast(Any, stack).use_nested_tensor]).append(hook.id)
        stack.__dict__["use_nested_tensor"] = False

    def undo() -> None:
        hook.remove()
        for stack in stacks:
            held = stack.__dict__[HELD]
            held.remove(hook.id)
            if len(held) == 1:
                stack.__dict__["use_nested_tensor"] = held[0]
                del stack.__dict__[HELD]

    return undo


def _nothing(module: nn.Module, args: object) -> None:
    """A hook that is there to be seen."""
