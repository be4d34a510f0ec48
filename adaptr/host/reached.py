"""Whether an adapter is reached: refused before it is attached where no code could, and looked at when the model runs.

Layers that the code above them calls or reads are not looked at: a branch, an expert or a tower may well not run. One
that no code mentions is reached by ways that no source shows, or not at all. If its parent has run and nobody has come
by, the adapter has done nothing, and the forward fails and says where.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from adaptr.adapter import Target
from adaptr.contract import Mount
from adaptr.errors import Unsupported
from adaptr.host.composed import CACHE
from adaptr.host.finding import site
from adaptr.host.own import alone
from adaptr.host.packed import is_packed
from adaptr.host.read import dropped
from adaptr.host.uses import Use, use
from adaptr.targets import submodule

if TYPE_CHECKING:
    from adaptr.families.base import Method


def reachable(
    model: nn.Module, method: Method, mount: Mount, target: Target, trains: bool, weighs: bool = True
) -> None:
    """Raises `Unsupported` where a layer is never called and its weight can't carry the adapter.

    `weighs`: whether the method, used so, changes a weight at all.
    """
    found, module = use(model, mount.path), submodule(model, mount.path)
    own = site(mount.site).beside and alone(module)
    if not own and not (found.bypassed and found.read):
        return
    who = f"`{mount.path}`: " + ("its forward" if own else _name(model, found.parent))
    if method.unmergeable or not weighs:
        raise Unsupported(
            f"{who} reads its weight and never calls it, and `{method.name}` has no weight",
            hint="leave it out of the targets, or choose a method that changes weights",
        )
    packed = next(iter(module._parameters.values()), None)
    if packed is not None and is_packed(packed):
        raise Unsupported(
            f"{who} reads its packed weight past the layer, where no adapter can be",
            hint="load the base unquantised, or leave it out of the targets",
        )
    if trains and getattr(method.config(target.config), "dropout", False):
        raise dropped(mount.path, method.name)


def in_a_stack(method: Method, target: Target, trains: bool, weighs: bool) -> None:
    """An expert of a stack has a weight and no call of its own."""
    if method.unmergeable or not weighs:
        raise Unsupported(
            f"`{target.path}` is a part of a stack of experts in this model, and `{method.name}` has no weight there",
            hint="choose a method that changes weights",
        )
    if trains and getattr(method.config(target.config), "dropout", False):
        raise dropped(target.path, method.name)


def _name(model: nn.Module, parent: str) -> str:
    return f"`{parent or 'the model'}` (`{type(submodule(model, parent)).__name__}`)"


def watched(model: nn.Module, host: nn.Module, path: str, found: Use) -> Callable[[], None]:
    """Look, when the parent has run, whether anybody came by the layer; returns how to stop."""
    if not found.bypassed or found.read:
        return lambda: None
    look = Look(host, path, model.get_submodule(found.parent), found.parent)
    return look.remove


class Look:
    """A hook on the parent of a layer that no code mentions, until the parent has run once."""

    def __init__(self, host: nn.Module, path: str, parent: nn.Module, name: str) -> None:
        self.host, self.path, self.parent, self.name = host, path, parent, name
        parent.register_forward_hook(self)

    def __call__(self, parent: nn.Module, args: object, output: object) -> None:
        if torch.compiler.is_compiling():
            return
        if CACHE not in self.host.__dict__:
            where = f"`{self.name}`" if self.name else "the model"
            raise Unsupported(
                f"the adapter at `{self.path}` does nothing: the forward of {where} ran, and neither called the "
                "layer nor read its weight where an adapter could act",
                hint="detach it and leave this layer out of its targets",
            )
        self.remove()

    def remove(self) -> None:
        hooks = self.parent._forward_hooks
        for number in [number for number, hook in hooks.items() if hook is self]:
            del hooks[number]
