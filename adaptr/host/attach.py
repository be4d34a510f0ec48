"""Attach an adapter to a live model and take it off again, leaving no trace.

Everything is checked before anything is changed. What is changed is undone by `Handle.detach()`: class swaps, hooks,
the attention implementation, replaced parameters, `requires_grad` flags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from adaptr import targets as places
from adaptr.adapter import Adapter, Target
from adaptr.errors import AlreadyAttached, ContentMismatch, TargetNotFound
from adaptr.host import attention, fastpath, prompt
from adaptr.host.entrance import Entrance, open_for
from adaptr.host.experts import part_of
from adaptr.host.freeze import freeze
from adaptr.host.gradients import Gradients
from adaptr.host.handle import Handle, Session, Undo
from adaptr.host.identity import content_of
from adaptr.host.layer import unpack
from adaptr.host.names import current, formerly, renamings
from adaptr.host.reached import reachable, watched
from adaptr.host.replace import replaceable, replacements, same
from adaptr.host.state import State
from adaptr.host.swap import mount, unmount
from adaptr.host.uses import use
from adaptr.precision import all_at_least

if TYPE_CHECKING:
    from adaptr.families.base import Method

Put = Callable[[nn.Module, str, Target, State], Undo]
LEDGER = "_adaptr_attached"


def attach(model: nn.Module, method: Method, adapter: Adapter, weight: float = 1.0) -> Handle:
    """Attach without gradients. Raises `AlreadyAttached`, `TargetNotFound`, `TargetMismatch`, `ShapeError`."""
    given, adapter = adapter, current(model, adapter)
    check(model, method, adapter, weight)
    handle = Handle(model, adapter, key_of(model, adapter))
    handle.given = formerly(adapter, given)
    return install(handle, weight, False, _states(handle, method, weight, False), place)


def train(model: nn.Module, method: Method, adapter: Adapter) -> Session:
    """Attach with gradients, everything else frozen."""
    given, adapter = adapter, current(model, adapter)
    check(model, method, adapter, 1.0, trains=True)
    session = Session(model, adapter, key_of(model, adapter))
    session.given = formerly(adapter, given)
    session._undo.append(freeze(model))
    session._undo += [unpack(module) for module in model.modules()]
    return install(session, 1.0, True, _states(session, method, 1.0, True), place)


H = TypeVar("H", bound=Handle)


def _states(handle: Handle, method: Method, weight: float, trainable: bool) -> Iterator[tuple[str, Target, State]]:
    """One for each target. What all targets share and what learns is one parameter in all of them."""
    adapter = handle.adapter.held()
    shared: dict[str, Any] = {}
    for path, target in adapter.targets.items():
        tensors = adapter.at(path) if trainable else widened(adapter.at(path), handle.model)
        state = State(method, target, tensors, weight, trainable)
        for name in state.shared:
            state._parameters[name] = shared.setdefault(name, state._parameters[name])
        yield path, target, state


def install(handle: H, weight: float, trainable: bool, states: Iterable[tuple[str, Target, State]], put: Put) -> H:
    """Put the handle's adapter on its model, whole or not at all: its states, by `put`, and whole parameters."""
    adapter, model = handle.adapter, handle.model
    model.__dict__.setdefault(LEDGER, {})[handle.key] = handle.adapter
    handle._undo.append(lambda: _forget(model, handle.key))
    try:
        for path, target, state in states:
            handle.states[path] = state
            if state.method.can.context:
                state.enters(entrance_of(handle), handle.draws)
            handle.hosts[path] = host_of(model, target)
            handle._undo.append(put(model, handle.key, target, state))
        for path, replacement in replacements(model, adapter, weight, trainable):
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


def entrance_of(handle: Handle) -> Entrance:
    """Where forwards of the handle's model begin; made for the first state that asks."""
    if handle.entrance is None:
        handle.entrance, undo = open_for(handle.model, handle.draws)
        handle._undo.append(undo)
    return handle.entrance


def _forget(model: nn.Module, key: str) -> None:
    ledger = model.__dict__.get(LEDGER, {})
    ledger.pop(key, None)
    if not ledger:
        model.__dict__.pop(LEDGER, None)


def widened(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors in at least the model's precision: a bf16 adapter must not round what an fp32 model gives it."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return all_at_least(tensors, dtype)


def place(model: nn.Module, key: str, target: Target, state: State) -> Undo:
    """Put one state where it works; returns how to take it off."""
    module, part = host_of(model, target), part_of(model, target)
    _same_device(model, module, state)
    if target.kind == "attention":
        return attention.mount(model, key, target, state)
    if target.kind == "model":
        return prompt.mount(model, key, state)
    if part is not None or target.kind in {"experts", "experts_t"}:  # one module may have several stacks
        state.__dict__["part"] = part
        return _on_stack(
            module, f"{key}-{target.path.rpartition('.')[2]}" if part is None else _key(key, target), state
        )
    found = use(model, target.path)
    on_output = target.kind == "module"
    # by ways that no source shows, a weight may be read as well
    is_read = not fastpath.inside(model, target.path) and found.read if on_output else found.read or found.bypassed
    mount(module, key, state, bool(is_read))
    reads = getattr(state.cfg, "reads", "")
    reads = renamings(model, {reads: Target(reads, "module", ())}).get(reads, reads) if reads else ""
    tap = model.get_submodule(reads).register_forward_pre_hook(state.take, with_kwargs=True) if reads else None
    unwatch = watched(model, module, target, found)
    again = fastpath.avoid(model, target.path, module) if on_output else unwatch

    def undo() -> None:
        unmount(module, key)
        unwatch()
        again()
        if tap is not None:
            tap.remove()

    return undo


def host_of(model: nn.Module, target: Target) -> nn.Module:
    """The module that a target is at, or that has the stack it is a part of."""
    part = part_of(model, target)
    return (
        places.submodule(model, part.path.rpartition(".")[0]) if part is not None else places.module_at(model, target)
    )


def _on_stack(module: nn.Module, key: str, state: State) -> Undo:
    mount(module, key, state)
    return lambda: unmount(module, key)


def _key(key: str, target: Target) -> str:
    return f"{key}-{target.path.replace('.', '_')}"


def _same_device(model: nn.Module, module: nn.Module, state: State) -> None:
    """Move a state to where its module is; a module without parameters is where the model begins."""
    first = next(module.parameters(), None)
    first = next(model.parameters(), None) if first is None else first
    if first is not None and first.device.type not in {"cpu", "meta"}:
        state.to(first.device)


def key_of(model: nn.Module, adapter: Adapter) -> str:
    """A name for the adapter on this model. Raises `AlreadyAttached` for the same adapter or the same name."""
    key = (adapter.name or adapter.method).replace(".", "_")
    there: dict[str, Adapter] = model.__dict__.get(LEDGER, {})
    if any(other is adapter or other.origin is adapter.origin for other in there.values()):
        raise AlreadyAttached(f"adapter `{adapter.label}` is on this model already; detach it first")
    if key in there and adapter.name:
        raise AlreadyAttached(
            f"an adapter called `{adapter.name}` is on this model already; give this one another name"
        )
    number = 2
    unique = key
    while unique in there or hasattr(nn.ModuleDict, unique):
        unique, number = f"{key}-{number}", number + 1
    return unique


def attached(model: nn.Module) -> dict[str, Adapter]:
    """The adapters on a model, by key."""
    return dict(model.__dict__.get(LEDGER, {}))


def check(model: nn.Module, method: Method, adapter: Adapter, weight: float, trains: bool = False) -> None:
    """All that can be known to be wrong, before anything is touched."""
    method.check_weight(weight)
    if not adapter.targets and not adapter.replaced:
        raise TargetNotFound(f"adapter `{adapter.label}` has no targets: attaching it would change nothing")
    for path, target in adapter.targets.items():
        method.check(target, adapter.shapes(path))
        if part_of(model, target) is None:
            places.match(model, target)
        reachable(model, method, target, trains)
    grounds = set(adapter.grounds.values())
    for path, tensor in adapter.replaced.items():
        if not (path in grounds and same(model, path, tensor)):
            replaceable(model, path, tensor)
    wanted = adapter.base.content
    found_content = content_of(model, adapter.targets) if wanted else ""
    if found_content and found_content != wanted and not adapter.base.quantization:
        raise ContentMismatch(
            f"the base's weights at the targets of `{adapter.label}` are not those it was trained on "
            f"({adapter.base.id or 'unnamed base'}); load the right revision, or in Python attach "
            "`adapter.replace(base=adaptr.Base())` to use it anyway"
        )
