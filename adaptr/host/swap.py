"""Class swap: a target module becomes an instance of `Adapted<Class>`, a subclass made once per class.

The adapters' states sit in a child `ModuleDict` called `adapters`. The forward runs the composed View, built at the
first call after a change. `__reduce_ex__` rebuilds the subclass, so that deepcopy and pickle work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

from torch import nn

from adaptr.errors import Unsupported
from adaptr.host.call import find
from adaptr.host.composed import CACHE, composed
from adaptr.host.layer import FORWARD, RAW, original
from adaptr.host.read import seen_of
from adaptr.host.state import State

#: From a class to the subclass that a module gets.
Kind = Callable[..., type[nn.Module]]


@functools.cache
def adapted(cls: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `cls` whose forward runs the adapters on it."""

    @functools.wraps(cls.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if FORWARD in self.__dict__ and find(self) is RAW:  # what was set on the instance calls that of its class
            return cls.forward(self, *args, **kwargs)
        found = self.__dict__.get(CACHE)
        # another parameter may have been put in place: assigned state dicts, tied or replaced weights
        if found is None or found[0] is not self._parameters.get("weight"):
            found = composed(self)
        return found[1](*args, **kwargs)

    return subclass(cls, forward, adapted)


@functools.cache
def read(cls: type[nn.Module]) -> type[nn.Module]:
    """As `adapted`, where others read the weight past the forward: they get it with the adapters in it."""
    return subclass(cls, adapted(cast(Any, cls)).forward, read, __getattr__=seen_of(cls), _adaptr_is_read=True)


@functools.cache
def within(cls: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `cls` whose own forward reads its weight with the adapters in it (routers of experts)."""
    return subclass(cls, cls.forward, within, __getattr__=seen_of(cls))


def subclass(cls: type[nn.Module], forward: object, kind: object, **more: object) -> type[nn.Module]:
    """The subclass of `cls` that `kind` makes, a function found by its name when a pickle is read."""

    def reduce(self: object, protocol: object) -> tuple[object, ...]:
        return (_rebuild, (kind, cls), {k: v for k, v in self.__dict__.items() if k != CACHE})

    body = {"forward": forward, "__reduce_ex__": reduce, "__module__": cls.__module__, "_adaptr_base": cls, **more}
    return type(f"Adapted{cls.__name__}", (cls,), body)


def _rebuild(kind: Kind, cls: type[nn.Module]) -> nn.Module:
    swapped: type[nn.Module] = kind(cls)
    return swapped.__new__(swapped)


def mount(module: nn.Module, key: str, state: State, kind: Kind | None) -> None:
    """Put `state` on `module` under `key`, above what is there already. `kind`: of the class that the module gets, None
    where it stays what it is. Raises `Unsupported` where it has one that can't be both.
    """
    if kind is not None:
        _become(module, kind, state)
    held = module._modules.get("adapters")  # past nn.Module's own ways, which look for hooks and names, for hundreds
    if held is None:
        held = module._modules["adapters"] = nn.ModuleDict()
    held._modules[key] = state
    module.__dict__.pop(CACHE, None)


def _become(module: nn.Module, kind: Kind, state: State) -> None:
    cls = original(module)
    wanted, now = kind(cls), type(module)
    if kind is adapted and now is read(cast(Any, cls)):
        wanted = now  # once read, always read: another model around this one may read it
    alike = {adapted(cast(Any, cls)), read(cast(Any, cls))}
    if now not in {cls, wanted} and not {now, wanted} <= alike:
        raise Unsupported(
            f"`{state.mount.path}`: a module can't have adapters on itself and on its parameters",
            hint="detach one of them first",
        )
    object.__setattr__(module, "__class__", wanted)
    if "forward" in module.__dict__ and wanted.forward is not cls.forward:
        module.__dict__[FORWARD] = module.__dict__.pop("forward")


def unmount(module: nn.Module, key: str) -> None:
    """Take the state called `key` off; the last one that needs the class restores it."""
    adapters = cast(nn.ModuleDict, module.adapters)
    del adapters[key]
    module.__dict__.pop(CACHE, None)
    if not adapters:
        del module.adapters
    if not any(state.site.swaps for state in cast("list[State]", list(adapters.values()))):
        module.__class__ = original(module)
        if FORWARD in module.__dict__:
            module.__dict__["forward"] = module.__dict__.pop(FORWARD)


def arrange(module: nn.Module, keys: Sequence[str]) -> None:
    """Give the states called `keys` their places among themselves in this order; others keep theirs."""
    held = cast(nn.ModuleDict, module.adapters)._modules
    turn = iter(keys)
    order = [next(turn) if key in keys else key for key in held]
    states = {key: held[key] for key in order}
    held.clear()
    held.update(states)
    module.__dict__.pop(CACHE, None)
