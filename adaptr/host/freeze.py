"""Freezing a model for a training session, and giving it its `requires_grad` flags back in whatever order sessions
end.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

#: On the model: one {id: (parameter, flag before)} for each session, oldest first.
FROZEN = "_adaptr_frozen"
Flags = dict[int, tuple[nn.Parameter, bool]]


def freeze(model: nn.Module) -> Callable[[], None]:
    """Freeze all parameters; returns how to undo it."""
    flags: Flags = {id(p): (p, p.requires_grad) for p in model.parameters()}
    stack: list[Flags] = model.__dict__.setdefault(FROZEN, [])
    stack.append(flags)
    for parameter, _ in flags.values():
        parameter.requires_grad_(False)

    def undo() -> None:
        place = next(i for i, other in enumerate(stack) if other is flags)
        del stack[place]
        if place < len(stack):
            stack[place].update(flags)  # the session begun after this one gives them back when it ends
            return
        for parameter, flag in flags.values():
            parameter.requires_grad_(flag)
        if not stack:
            model.__dict__.pop(FROZEN, None)

    return undo
