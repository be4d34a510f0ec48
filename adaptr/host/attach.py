"""Attach an adapter to a live model and take it off again, leaving no trace.

Everything is checked before anything is changed. What is changed is undone by `Handle.detach()`: class swaps, hooks,
the attention implementation, replaced parameters, `requires_grad` flags.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeVar

from torch import nn

from adaptr.adapter import Adapter, Target
from adaptr.errors import AlreadyAttached, TargetNotFound, Unsupported, phrases
from adaptr.host import group, saving, statistics
from adaptr.host.entrance import Entrance, open_for
from adaptr.host.freeze import freeze
from adaptr.host.gradients import Gradients
from adaptr.host.handle import Handle, Undo
from adaptr.host.mounting import Mounting
from adaptr.host.names import renamings
from adaptr.host.packed import hold, require_learning
from adaptr.host.replace import replacements
from adaptr.host.session import Session
from adaptr.host.state import Reading, State

if TYPE_CHECKING:
    from adaptr.families.base import Method

LEDGER = saving.LEDGER


def attach(model: nn.Module, method: Method, adapter: Adapter, weight: float = 1.0) -> Handle:
    """Attach without gradients. Raises `AlreadyAttached`, `TargetNotFound`, `TargetMismatch`, `ShapeError`."""
    if method.can.parts:
        return group.attach(model, method, adapter, weight)
    mounting = Mounting(model, method, adapter, weight, False)
    mounting.check()
    return install(Handle(model, mounting.adapter, key_of(model, mounting.adapter)), mounting)


def train(model: nn.Module, method: Method, adapter: Adapter) -> Session:
    """Attach with gradients, everything else frozen."""
    if method.can.parts:
        return group.train(model, method, adapter)
    mounting = Mounting(model, method, adapter, 1.0, True)
    mounting.check()
    require_learning(model)
    session = Session(model, mounting.adapter, key_of(model, mounting.adapter))
    session._undo.append(freeze(model))
    session._undo.append(hold(model))
    session._undo.append(statistics.hold(model, adapter.replaced_paths))
    return install(session, mounting)


H = TypeVar("H", bound=Handle)


def install(handle: H, mounting: Mounting) -> H:
    """Put the handle's adapter on its model, whole or not at all: its states, and whole parameters."""
    adapter, model, weight = handle.adapter, handle.model, mounting.weight
    handle.given = mounting.given
    model.__dict__.setdefault(LEDGER, {})[handle.key] = handle.adapter
    saving.tell(model)
    handle._undo += [lambda: saving.hush(model), lambda: forget(model, handle.key)]
    try:
        for name, mount, state in mounting.states():
            handle.states[name] = state
            handle.hosts[name] = state.site.host(model, mount, state.target)
            _same_device(model, handle.hosts[name], state)
            for one in (state, *state.parts.values()):
                one.calls.update((path, called(model, path)) for path in one.mount.calls)
                if one.mount.context:
                    one.enters(entrance_of(handle, one), handle.draws)
            handle._undo.append(state.site.mount(model, handle.key, state))
            handle._undo += [reading(model, state, path) for path in state.reads]
        for path, replacement in replacements(model, adapter, weight, mounting.trainable):
            handle.replacements[path] = replacement
            handle._undo.append(replacement.undo)
    except BaseException:
        handle.detach()
        raise
    handle.strength = weight
    if isinstance(handle, Session):
        handle.gradients = Gradients(handle)
        handle._undo.append(handle.gradients.remove)
    return handle


def entrance_of(handle: Handle, state: State) -> Entrance:
    """Where forwards of the handle's model begin; made for the first state that asks, and the first that trains."""
    if handle.entrance is None or (state.training and not handle.entrance.trains(handle.draws)):
        handle.entrance, undo = open_for(handle.model, state)
        handle._undo.append(undo)
    return handle.entrance


def reading(model: nn.Module, state: State, path: str) -> Undo:
    """Let a state take the input of a module that it reads; returns how to stop."""
    found = state.reads.setdefault(path, Reading(path, state))
    return _named(model, path).register_forward_pre_hook(found, with_kwargs=True).remove


def called(model: nn.Module, path: str) -> nn.Module:
    """A module that a formula calls, which is one layer. Raises `Unsupported` for what is made of others."""
    module = _named(model, path)
    if any(name != "adapters" for name in module._modules):
        raise Unsupported(
            f"the adapter calls `{path}` of the base", verb="which is", got=f"a {type(module).__name__}", want="a norm"
        )
    return module


def _named(model: nn.Module, path: str) -> nn.Module:
    """A module that a mount names, by the name that the model has for it now. Raises `TargetNotFound`."""
    now = renamings(model, {path: Target(path, "module", ())}).get(path, path)
    try:
        return model.get_submodule(now)
    except AttributeError:
        names = [name for name, _ in model.named_modules() if name and ".adapters" not in name]
        hint = phrases.nearest(path, names)
        raise TargetNotFound(f"the base has no `{path}`, which the adapter reads", hint=hint) from None


def forget(model: nn.Module, key: str) -> None:
    """Let an adapter no longer be on the model's list."""
    ledger, inside = model.__dict__.get(LEDGER, {}), model.__dict__.get(saving.MERGED, set())
    ledger.pop(key, None)
    inside.discard(key)
    for slot in (name for name, found in ((LEDGER, ledger), (saving.MERGED, inside)) if not found):
        model.__dict__.pop(slot, None)


def _same_device(model: nn.Module, module: nn.Module, state: State) -> None:
    """Move a state to where its module is; a module without parameters is where the model begins."""
    own = (p for p in module._parameters.values() if p is not None)  # without a walk, for hundreds of layers
    first = next(itertools.chain(own, module.parameters(), model.parameters()), None)
    if first is not None and first.device.type not in {"cpu", "meta"}:
        state.to(first.device)


def key_of(model: nn.Module, adapter: Adapter) -> str:
    """A name for the adapter on this model. Raises `AlreadyAttached` for the same adapter or the same name."""
    key = (adapter.name or adapter.method).replace(".", "_")
    there: dict[str, Adapter] = model.__dict__.get(LEDGER, {})
    if any(other is adapter or other.origin is adapter.origin for other in there.values()):
        raise AlreadyAttached(f"adapter `{adapter.label}` is on this model already", hint="detach it first")
    require_new_name(model, adapter)
    number = 2
    unique = key
    while unique in there or hasattr(nn.ModuleDict, unique):
        unique, number = f"{key}-{number}", number + 1
    return unique


def require_new_name(model: nn.Module, adapter: Adapter) -> None:
    """Raises `AlreadyAttached` for an adapter that is called as one on the model, such as a file that is read twice."""
    if adapter.name and any(other.name == adapter.name for other in attached(model).values()):
        raise AlreadyAttached(
            f"an adapter called `{adapter.name}` is on this model already",
            hint="detach that, or give this another name",
        )


def attached(model: nn.Module) -> dict[str, Adapter]:
    """The adapters on a model, by key."""
    return dict(model.__dict__.get(LEDGER, {}))
