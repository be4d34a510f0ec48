"""Parameters of a live model that are used in several places, and giving each use one of its own for a while."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported
from adaptr.host.layer import original as class_of
from adaptr.host.originals import Mark, Place, parameter_of, writes_at
from adaptr.models import tying

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter

#: Where a model knows that it is untied.
SLOT = "_adaptr_untied"


def uses(model: nn.Module) -> dict[int, dict[str, Place]]:
    """The parameters with several places, by their ids: each place by its name."""
    found: dict[int, dict[str, Place]] = {}
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), {})[f"{path}.{name}".lstrip(".")] = (module, name)
    return {one: places for one, places in found.items() if len(places) > 1}


def require_separable(model: nn.Module, name: str) -> None:
    """Raises `Unsupported` for a model that ties whatever it is told, or computes otherwise without the tie."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "to_dict"):
        return
    architecture = class_of(model).__name__
    if not tying.separable({**config.to_dict(), "architectures": [architecture]}):
        raise Unsupported(
            f"`{name}` can't be untied: a {architecture} has no place for tensors of their own, or computes otherwise "
            "with them",
            hint='say `tied="both"`, or keep the adapter attached',
        )


def without(model: nn.Module, adapter: Adapter) -> Adapter:
    """`adapter` as one that replaces single uses of what is tied: of these the base no longer says that they are.

    Raises `Unsupported` for a model that can't be untied.
    """
    whole = {path for one in (adapter, *map(adapter.part, adapter.parts)) for path in one.replaced_paths}
    kept = tuple(tie for tie in adapter.base.ties if not whole & set(tie))
    if kept == adapter.base.ties:
        return adapter
    require_separable(model, min(whole))
    return adapter.replace(base=dataclasses.replace(adapter.base, ties=kept))


def untie(model: nn.Module) -> None:
    """Let each use of what is tied in a model have a parameter of its own, until nothing that is merged needs it."""
    before: Untied | None = model.__dict__.get(SLOT)
    check(model)
    if before is None or uses(model):
        model.__dict__[SLOT] = Untied(model, before)


def retie(model: nn.Module) -> None:
    """Tie a model again where all uses are as they were."""
    found: Untied | None = model.__dict__.get(SLOT)
    if found is not None and found.needed:
        found.seal()
    elif found is not None:
        found.undo()
        model.__dict__.pop(SLOT, None)


def check(model: nn.Module) -> None:
    """Raises `Unsupported` where a use of what is untied was written to by somebody else: tying would undo that."""
    found: Untied | None = model.__dict__.get(SLOT)
    if found is not None:
        found.check()


class Untied:
    """All ties of a model. The configuration says that there are none, as saving, loading and resizing ask it."""

    def __init__(self, model: nn.Module, before: Untied | None = None) -> None:
        self.groups: list[list[Place]] = [] if before is None else before.groups
        flags: list[tuple[object, bool]] = [(config, True) for config in _configs(model)]
        self._flags: list[tuple[object, bool]] = flags if before is None else before._flags
        for config, _ in self._flags:
            setattr(config, tying.FLAG, False)
        for places in uses(model).values():
            group = list(places.values())
            self.groups.append(group)
            for module, name in group[1:]:
                module._parameters[name] = _copy(parameter_of(group[0]))
        self.seal()

    def seal(self) -> None:
        """What is there now is ours."""
        self._marks = [(place, Mark(parameter_of(place))) for group in self.groups for place in group]
        for place, _ in self._marks:
            for write in writes_at(place)[-1:]:
                write.seal()

    def check(self) -> None:
        for place, mark in self._marks:
            for write in writes_at(place):
                write.check()
            if not writes_at(place) and not mark.holds(parameter_of(place)):
                raise Unsupported(
                    f"a parameter `{place[1]}` that was untied has been written to since (trained, or loaded over), "
                    "and tying it again would undo that",
                    hint="load the base again",
                )

    @property
    def needed(self) -> bool:
        """Whether something is merged into some uses of a tensor and not into all."""
        return any(
            not set(group) <= set(write.places) for group in self.groups for p in group for write in writes_at(p)
        )

    def undo(self) -> None:
        for first, *others in self.groups:
            for module, name in others:
                module._parameters[name] = parameter_of(first)
        self.seal()
        for config, flag in self._flags:
            setattr(config, tying.FLAG, flag)


def _copy(parameter: nn.Parameter) -> nn.Parameter:
    import torch
    from torch import nn

    with torch.inference_mode(parameter.is_inference()):
        return nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)


def _configs(model: nn.Module) -> list[object]:
    """The configurations of a model and its parts that say that something is tied."""
    found: list[object] = []
    waiting: list[Any] = [getattr(model, "config", None)]
    while waiting:
        config = waiting.pop()
        if hasattr(config, "to_dict") and not any(config is other for other in found):
            found.append(config)
            waiting += list(vars(config).values())
    return [config for config in found if getattr(config, tying.FLAG, False)]
