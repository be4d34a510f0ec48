"""Running statistics of norms over batches: buffers that a forward in training writes to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from torch import Tensor, nn

#: What a norm has of these and an adapter can have of its own.
NAMES = ("running_mean", "running_var")


def named(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All of them that a model saves, by their names."""
    for path, module in model.named_modules():
        for name in NAMES:
            found = module._buffers.get(name)
            if found is not None and name not in module._non_persistent_buffers_set:
                yield f"{path}.{name}" if path else name, found


def hold(model: nn.Module, own: Collection[str]) -> Callable[[], None]:
    """Keep those of the base as they are while an adapter is trained, but for its `own`; returns how to undo it.

    Forwards in training go on norming by the batch. What an adapter without statistics of its own gets with the base
    later is what the base has.
    """
    held = []
    for path, module in model.named_modules():
        tracked = module._buffers.get(NAMES[0])
        if tracked is not None and hasattr(module, "momentum"):
            count = module._buffers.get("num_batches_tracked")
            held.append((module, module.momentum, count, None if count is None else count.clone()))
            if f"{path}.{NAMES[0]}" not in own:
                module.momentum = 0.0

    def undo() -> None:
        for module, momentum, count, before in held:
            module.momentum = momentum
            if count is not None:
                count.copy_(before)

    return undo
