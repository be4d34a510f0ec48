"""The weight of a layer: x Wᵀ + b with another W, computed beside it where that is possible.

Where the code above reads the weight and never calls the layer, or the layer's own forward does more than its kind of
layer, the weight that is read has the adapters in it; `state_dict` and optimisers see the parameter as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr import targets
from adaptr.host import swap
from adaptr.host.beside import applied
from adaptr.host.experts import part_of
from adaptr.host.own import alone
from adaptr.host.reached import reachable, watched
from adaptr.host.uses import use
from adaptr.sites import site
from adaptr.sites.base import Site, Undo, role_of

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Target
    from adaptr.contract import Mount, View
    from adaptr.families.base import Method
    from adaptr.host.state import State


class Weight(Site):
    name = "weight"
    weighs = True
    apart = True
    beside = True

    def find(self, model: nn.Module, role: str) -> list[str]:
        return role_of(model, role)

    def at(self, model: nn.Module, mount: Mount, target: Target) -> Site:
        return self if part_of(model, target) is None else site("experts")

    def check(self, model: nn.Module, method: Method, mount: Mount, target: Target, trains: bool) -> None:
        super().check(model, method, mount, target, trains)
        reachable(model, method, mount, target, trains)

    def mount(self, model: nn.Module, key: str, state: State) -> Undo:
        path = state.mount.path
        module, found = targets.submodule(model, path), use(model, path)
        put(module, key, state, found.read or found.bypassed)
        unwatch = watched(model, module, path, found)

        def off() -> None:
            swap.unmount(module, key)
            unwatch()

        return off

    def around(self, below: View, state: State, module: nn.Module) -> View:
        return applied(below, state)


def put(module: nn.Module, key: str, state: State, is_read: bool) -> None:
    """Put a state on a layer. `is_read`: others read the weight past the layer's forward."""
    kind = swap.within if alone(module) else swap.read if is_read else swap.adapted
    swap.mount(module, key, state, kind)


SITE = Weight()
