"""Weights that are read past their layer's forward: who reads them gets them with the adapters in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from adaptr.contract import View
from adaptr.errors import Unsupported
from adaptr.host.call import find
from adaptr.host.composed import CACHE, composed
from adaptr.host.layer import RAW, is_transposed, original
from adaptr.host.packed import is_packed
from adaptr.host.state import State


def seen_of(cls: type[nn.Module]) -> Callable[[Any, str], Any]:
    def seen(self: Any, name: str) -> Any:
        """Where Python looks for parameters; `state_dict`, `parameters()` and optimisers don't come this way."""
        if name not in {"weight", "bias"} or self._parameters.get(name) is None or find(self) is RAW:
            return cls.__getattr__(self, name)
        found = self.__dict__.get(CACHE)
        if found is None or found[0] is not self._parameters.get("weight"):
            found = composed(self)
        return _value(self, found[2], name)

    return seen


def _value(module: nn.Module, view: View, name: str) -> Tensor:
    """The adapted weight or bias, as the layer stores it."""
    stored = cast(Tensor, module._parameters[name])
    if is_packed(stored):
        return stored  # packed: who reads it knows how, and no adapter can be in it
    _refuse_dropout(module)
    if name == "bias":
        return cast(Tensor, view.bias).to(stored.dtype)
    if module._parameters.get("bias") is None and view.bias is not None:
        raise Unsupported(
            f"a weight is read of a `{original(module).__name__}` without a bias, which its adapter changes",
            hint="train the adapter without one (`bias=False`), or leave the layer out of the targets",
        )
    value = view.weight.to(stored.dtype)
    return value.t() if is_transposed(module) else value


def _refuse_dropout(module: nn.Module) -> None:
    """A weight has no input that could be dropped."""
    for state in cast("list[State]", list(cast(nn.ModuleDict, module.adapters).values())):
        if state.training and getattr(state.cfg, "dropout", False):
            raise dropped(state.target.path, state.method.name)


def dropped(path: str, method: str) -> Unsupported:
    """Why there is no dropout at a layer."""
    return Unsupported(
        f"`{path}`: its weight is read and its input is not given to the adapter, so `{method}` can't drop any of it",
        hint="train with `dropout=0`, there alone by `overrides`, or leave the layer out of the targets",
    )
