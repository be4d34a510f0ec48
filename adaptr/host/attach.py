"""Attach an adapter to a live model and take it off again, leaving no trace.

Everything is checked before anything is changed. What is changed is undone by `Handle.detach()`: class swaps, hooks, the
attention implementation, replaced parameters, `requires_grad` flags.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adaptr import targets as places
from adaptr.adapter import Adapter, Base, Target
from adaptr.errors import AlreadyAttached, ContentMismatch, ShapeError, TargetNotFound
from adaptr.host import attention, prompt
from adaptr.host.swap import State, mount, original, unmount

if TYPE_CHECKING:
    from adaptr.families.base import Method

Undo = Callable[[], None]
LEDGER = "_adaptr_attached"


class Handle:
    """An adapter on a model. `detach()` takes it off; a `with` block does so at its end."""

    def __init__(self, model: nn.Module, adapter: Adapter, key: str) -> None:
        self.model, self.adapter, self.key = model, adapter, key
        self.states: dict[str, State] = {}
        self._undo: list[Undo] = []

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    @property
    def weight(self) -> float:
        return next(iter(self.states.values())).strength

    @weight.setter
    def weight(self, value: float) -> None:
        """Change the strength; takes effect at the next forward."""
        for path, state in self.states.items():
            state.strength = value
            host = _host_module(self.model, state.target) if path in self.states else None
            if host is not None:
                host.__dict__.pop("_adaptr_view", None)

    def detach(self) -> None:
        """Take the adapter off. Calling it again does nothing."""
        while self._undo:
            self._undo.pop()()
        self.states = {}


class Session(Handle):
    """A `Handle` whose tensors learn."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """What an optimiser gets: the adapter's own tensors and replaced parameters, nothing else."""
        for state in self.states.values():
            yield from (p for p in state.parameters() if p.requires_grad)
        yield from self.replaced.values()

    @property
    def replaced(self) -> dict[str, nn.Parameter]:
        return {path: self.model.get_parameter(path) for path in self.adapter.replaced}

    def after_step(self) -> None:
        """Called after each optimiser step; methods with a schedule do their work here."""

    def adapted(self) -> Adapter:
        """The adapter with its tensors as they are now."""
        return snapshot(self)


def attach(model: nn.Module, method: Method, adapter: Adapter, weight: float = 1.0) -> Handle:
    """Attach without gradients. Raises `AlreadyAttached`, `TargetNotFound`, `TargetMismatch`, `ShapeError`."""
    return _install(Handle(model, adapter, _key(model, adapter)), method, weight, trainable=False)


def train(model: nn.Module, method: Method, adapter: Adapter) -> Session:
    """Attach with gradients, everything else frozen."""
    session = Session(model, adapter, _key(model, adapter))
    flags = [(p, p.requires_grad) for p in model.parameters()]
    session._undo.append(lambda: _restore_flags(flags))
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    try:
        _install(session, method, 1.0, trainable=True)
    except Exception:
        session.detach()
        raise
    return session


def _restore_flags(flags: list[tuple[nn.Parameter, bool]]) -> None:
    for parameter, flag in flags:
        parameter.requires_grad_(flag)


def _install(handle: Any, method: Method, weight: float, trainable: bool) -> Any:
    adapter, model = handle.adapter, handle.model
    _check(model, method, adapter)
    ledger = model.__dict__.setdefault(LEDGER, {})
    ledger[handle.key] = adapter
    handle._undo.append(lambda: _forget(model, handle.key))
    try:
        for path, target in adapter.targets.items():
            state = State(method, target, adapter.at(path), weight, trainable)
            handle.states[path] = state
            handle._undo.append(_place(model, handle.key, target, state, adapter))
        for path, tensor in adapter.replaced.items():
            handle._undo.append(_replace(model, path, tensor, trainable))
    except Exception:
        handle.detach()
        raise
    return handle


def _forget(model: nn.Module, key: str) -> None:
    ledger = model.__dict__.get(LEDGER, {})
    ledger.pop(key, None)
    if not ledger:
        model.__dict__.pop(LEDGER, None)


def _place(model: nn.Module, key: str, target: Target, state: State, adapter: Adapter) -> Undo:
    """Put one state where it works; returns how to take it off."""
    if target.kind == "attention":
        return attention.mount(model, key, target, state)
    if target.kind == "model":
        return prompt.mount(model, key, state)
    module = _host_module(model, target)
    mount(module, key, state)
    reads = getattr(state.cfg, "reads", "")
    tap = model.get_submodule(reads).register_forward_pre_hook(state.take, with_kwargs=True) if reads else None

    def undo() -> None:
        unmount(module, key)
        if tap is not None:
            tap.remove()

    return undo


def _host_module(model: nn.Module, target: Target) -> nn.Module:
    """The module whose class is swapped: the target itself, or the owner of a raw parameter."""
    path = target.path.rpartition(".")[0] if target.kind in {"experts", "experts_t"} else target.path
    return model.get_submodule(path)


def _replace(model: nn.Module, path: str, tensor: Tensor, trainable: bool) -> Undo:
    owner, _, name = path.rpartition(".")
    module = model.get_submodule(owner)
    before = module._parameters[name]
    assert before is not None
    value = tensor.detach().clone().to(dtype=before.dtype if not trainable else tensor.dtype)
    module._parameters[name] = nn.Parameter(value, requires_grad=trainable)

    def undo() -> None:
        module._parameters[name] = before

    return undo


def _key(model: nn.Module, adapter: Adapter) -> str:
    """A name for the adapter on this model. Raises `AlreadyAttached` for the same adapter or the same name."""
    key = (adapter.name or adapter.method).replace(".", "_")
    there: dict[str, Adapter] = model.__dict__.get(LEDGER, {})
    if any(other is adapter or other.tensors is adapter.tensors for other in there.values()):
        raise AlreadyAttached(f"adapter `{adapter.label}` is on this model already; detach it first")
    if key in there and adapter.name:
        raise AlreadyAttached(
            f"an adapter called `{adapter.name}` is on this model already; give this one another name"
        )
    number = 2
    unique = key
    while unique in there:
        unique, number = f"{key}-{number}", number + 1
    return unique


def attached(model: nn.Module) -> dict[str, Adapter]:
    """The adapters on a model, by key."""
    return dict(model.__dict__.get(LEDGER, {}))


def _check(model: nn.Module, method: Method, adapter: Adapter) -> None:
    """All that can be known to be wrong, before anything is touched."""
    if not adapter.targets and not adapter.replaced:
        raise TargetNotFound(f"adapter `{adapter.label}` has no targets: attaching it would change nothing")
    for path, target in adapter.targets.items():
        method.check(target, {name: tuple(t.shape) for name, t in adapter.at(path).items()})
        places.match(model, target)
    for path, tensor in adapter.replaced.items():
        found = places.parameter(model, path)
        if found.shape != tensor.shape:
            raise ShapeError(
                f"`{path}` in the base has shape {tuple(found.shape)}, the adapter's {tuple(tensor.shape)}"
            )
    content = adapter.base.content
    if content and content != content_of(model, adapter.targets):
        raise ContentMismatch(
            f"the base's weights at the targets of `{adapter.label}` are not those it was trained on "
            f"({adapter.base.id or 'unnamed base'}); load the right revision, or clear `base.content` to attach it anyway"
        )


def snapshot(session: Session) -> Adapter:
    """The adapter with the live tensors, copied."""
    adapter = session.adapter
    tensors = dict(adapter.tensors)
    for path, state in session.states.items():
        for name in state:
            tensors[f"{path}:{name}"] = state[name].detach().clone()
    for path, parameter in session.replaced.items():
        tensors[f"{path}:="] = parameter.detach().clone()
    return adapter.replace(tensors=tensors)


def base_of(model: nn.Module, targets: Mapping[str, Target]) -> Base:
    """What is known of a live base model."""
    config = getattr(model, "config", None)
    shapes = sorted((name, tuple(p.shape)) for name, p in model.named_parameters() if ".adapters." not in name)
    text = "\n".join(f"{name} {','.join(map(str, shape))}" for name, shape in shapes)
    quantization = getattr(config, "quantization_config", None)
    return Base(
        id=str(getattr(config, "_name_or_path", "") or ""),
        revision=str(getattr(config, "_commit_hash", "") or ""),
        architecture=original(model).__name__,
        structure="sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        content=content_of(model, targets),
        ties=_ties(model),
        quantization=str(getattr(quantization, "quant_method", "") or ""),
    )


SAMPLES = 32


def content_of(model: nn.Module, targets: Mapping[str, Target]) -> str:
    """A digest of up to 32 values of each target's weight, as fp32: what tells two revisions apart."""
    digest = hashlib.sha256()
    for path in sorted(targets):
        weight = _sampled_weight(model, targets[path])
        if weight is not None:
            digest.update(path.encode() + b"\0" + sample(weight))
    return "sha256:" + digest.hexdigest()


def sample(weight: Tensor) -> bytes:
    """Up to 32 evenly spaced values, as little-endian fp32 bytes."""
    flat = weight.detach().reshape(-1)
    step = max(flat.numel() // SAMPLES, 1)
    return bytes(flat[::step][:SAMPLES].to(torch.float32).contiguous().view(torch.uint8).tolist())


def _sampled_weight(model: nn.Module, target: Target) -> Tensor | None:
    if target.kind in {"experts", "experts_t"}:
        return model.get_parameter(target.path)
    weight = model.get_submodule(target.path)._parameters.get("weight")
    return weight if weight is not None and weight.is_floating_point() else None


def _ties(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return tuple(tuple(sorted(names)) for _, names in sorted(groups.items()) if len(names) > 1)
