"""(IA)3 of outputs, which scales a bias with them: where the base has none, that is nothing that LyCORIS can't hold."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.format import BaseModel


def unbiased(adapter: Adapter, base: BaseModel) -> Adapter:
    """`adapter`, which says of layers without a bias that it leaves that alone."""
    from adaptr.checkpoint.skeleton import skeleton

    if adapter.method != "ia3":
        return adapter
    model = skeleton(base)
    return adapter.replace(targets={path: _of(model, target) for path, target in adapter.targets.items()})


def _of(model: nn.Module, target: Target) -> Target:
    from adaptr.foreign import placing

    place = placing.agreed(model, target).path
    try:
        bias = model.get_submodule(place).bias
    except AttributeError:
        return target
    return target if bias is not None else dataclasses.replace(target, config={**target.config, "bias": False})
