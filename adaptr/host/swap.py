"""Class swap: a target module becomes an instance of `Adapted<Class>`, a subclass made once per class.

The adapters' states sit in a child `ModuleDict` called `adapters`. The forward runs the composed View, built at the
first call after a change. `__reduce_ex__` rebuilds the subclass, so that deepcopy and pickle work.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from adaptr.errors import Unsupported
from adaptr.host.call import find, put, restore
from adaptr.host.composed import CACHE, composed
from adaptr.host.experts import experts_value, parameter_of, refuse_bias
from adaptr.host.layer import FORWARD, original, own_forward
from adaptr.host.own import alone
from adaptr.host.read import seen_of
from adaptr.host.state import State


@functools.cache
def adapted(cls: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `cls` whose forward runs the adapters on it."""

    @functools.wraps(cls.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = self.__dict__.get(CACHE)
        # another parameter may have been put in place: assigned state dicts, tied or replaced weights
        if found is None or found[0] is not self._parameters.get("weight"):
            found = composed(self)
        return found[1](*args, **kwargs)

    return _subclass(cls, forward, adapted)


@functools.cache
def read(cls: type[nn.Module]) -> type[nn.Module]:
    """As `adapted`, where others read the weight past the forward: they get it with the adapters in it."""
    return _subclass(cls, adapted(cast(Any, cls)).forward, read, __getattr__=seen_of(cls), _adaptr_is_read=True)


@functools.cache
def within(cls: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `cls` whose own forward reads its weight with the adapters in it (routers of experts)."""
    return _subclass(cls, cls.forward, within, __getattr__=seen_of(cls))


@functools.cache
def owner(cls: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `cls` whose forward sees adapted values in place of its raw parameters (expert stacks)."""

    @functools.wraps(cls.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        names = {parameter_of(state) for state in self.adapters.values()}
        before = put(self, {name: experts_value(self, name) for name in names})
        try:
            return own_forward(self)(*args, **kwargs)
        finally:
            restore(before)

    def seen(self: Any, name: str) -> Any:
        """Where Python looks for parameters. Other threads, and who asks outside of the forward, see them raw."""
        values = find(self)
        return values[name] if values is not None and name in values else cls.__getattr__(self, name)

    return _subclass(cls, forward, owner, __getattr__=seen)


def _subclass(cls: type[nn.Module], forward: Any, kind: Any, **more: Any) -> type[nn.Module]:
    def reduce(self: Any, protocol: Any) -> Any:
        return (_rebuild, (kind, cls), {k: v for k, v in self.__dict__.items() if k != CACHE})

    body = {"forward": forward, "__reduce_ex__": reduce, "__module__": cls.__module__, "_adaptr_base": cls, **more}
    return type(f"Adapted{cls.__name__}", (cls,), body)


def _rebuild(kind: Any, cls: type[nn.Module]) -> nn.Module:
    swapped: type[nn.Module] = kind(cls)
    return swapped.__new__(swapped)


def mount(module: nn.Module, key: str, state: State, is_read: bool = False) -> None:
    """Put `state` on `module` under `key`, above what is there already. `is_read`: others read the weight."""
    swapped = _swapped(module, state, is_read)
    if "adapters" not in module._modules:
        module.adapters = nn.ModuleDict()
    module.__class__ = swapped
    if "forward" in module.__dict__ and swapped.forward is not original(module).forward:
        module.__dict__[FORWARD] = module.__dict__.pop("forward")
    cast(nn.ModuleDict, module.adapters)[key] = state
    module.__dict__.pop(CACHE, None)


def _swapped(module: nn.Module, state: State, is_read: bool) -> type[nn.Module]:
    """The class that `module` gets. Raises `Unsupported` where it has one that can't be both."""
    cls = original(module)
    called, whole, stacks, inner = (cast(Any, kind)(cls) for kind in (adapted, read, owner, within))
    if state.part is not None or state.target.kind in {"experts", "experts_t"}:
        refuse_bias(state, module._parameters[parameter_of(state)])
        wanted, fits = stacks, {cls, stacks}
    elif state.target.kind != "module" and alone(module):
        wanted, fits = inner, {cls, inner}
    else:  # once read, always read: another model around this one may read it
        wanted, fits = whole if is_read or type(module) is whole else called, {cls, called, whole}
    if type(module) not in fits:
        raise Unsupported(f"`{state.target.path}`: a module can't have adapters on itself and on its parameters")
    found: type[nn.Module] = wanted
    return found


def unmount(module: nn.Module, key: str) -> None:
    """Take the state called `key` off; the last one restores the class."""
    adapters = cast(nn.ModuleDict, module.adapters)
    del adapters[key]
    module.__dict__.pop(CACHE, None)
    if not adapters:
        del module.adapters
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
