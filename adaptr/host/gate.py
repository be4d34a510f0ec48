"""Attaching a gate: its experts at their layers, its own tensors, and the pass of the base that some gates read.

Such a pass runs in a pre-hook of the model's backbone, with the arguments that the backbone gets, experts silent. With
a cache, its keys and values are further layers of the same cache: whatever becomes of the cache (beams, crops,
copies) becomes of both, and decoding token by token is what a forward of the whole text is.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from adaptr import plugins
from adaptr import targets as places
from adaptr.adapter import Adapter, Target
from adaptr.errors import AlreadyAttached, Unsupported
from adaptr.host.attach import check, install, key_of, place, widened
from adaptr.host.call import carry, carry_no_more, checkpointed, put, reentrant, restore, take
from adaptr.host.entrance import renew
from adaptr.host.freeze import freeze
from adaptr.host.handle import Handle, Session, Undo
from adaptr.host.layer import unpack
from adaptr.host.names import current
from adaptr.host.reached import reachable
from adaptr.host.site import PASS, Signal, Site
from adaptr.host.state import State

if TYPE_CHECKING:
    from adaptr.families.gate import Gate

SLOT = "_adaptr_gate"
H = TypeVar("H", bound=Handle)


def attach(model: nn.Module, method: Gate, adapter: Adapter, weight: float) -> Handle:
    """Attach a gate and its experts, or nothing."""
    adapter, parts = _checked(model, method, adapter, weight)
    return _installed(Handle(model, adapter, key_of(model, adapter)), method, parts, weight, trainable=False)


def train(model: nn.Module, method: Gate, adapter: Adapter) -> Session:
    """Attach a gate with gradients; its experts and everything else are frozen."""
    adapter, parts = _checked(model, method, adapter, 1.0)
    session = Session(model, adapter, key_of(model, adapter))
    session._undo.append(freeze(model))
    session._undo += [unpack(module) for module in model.modules()]
    return _installed(session, method, parts, 1.0, trainable=True)


def _checked(model: nn.Module, method: Gate, adapter: Adapter, weight: float) -> tuple[Adapter, dict[str, Adapter]]:
    adapter = current(model, adapter)
    held = adapter.held()
    parts = {name: held.part(name) for name in method.config(adapter.config).experts}
    check(model, method, adapter, weight)
    for part in parts.values():
        now = current(model, part)
        check(model, plugins.method(part.method), now, 1.0)
        for target in now.targets.values():
            reachable(model, method, target, trains=False, weighs=False)
    if method.passes:
        backbone_of(model)
        if SLOT in model._modules:
            raise AlreadyAttached("there is a gate on this model already, and its pass would run inside this one's")
    return adapter, parts


def _installed(handle: H, method: Gate, parts: Mapping[str, Adapter], weight: float, trainable: bool) -> H:
    signal = Signal()

    def states() -> Iterator[tuple[str, Target, State]]:
        yield from _states(handle, method, parts, weight, trainable, signal)

    def put(model: nn.Module, key: str, target: Target, state: State) -> Undo:
        return _mount(model, method, state, signal) if target.kind == "model" else place(model, key, target, state)

    return install(handle, weight, trainable, states(), put)


def _states(
    handle: Handle, method: Gate, parts: Mapping[str, Adapter], weight: float, trainable: bool, signal: Signal
) -> Iterator[tuple[str, Target, State]]:
    """The gate's own state at the model, if it has one, and its sites."""
    adapter, model = handle.adapter, handle.model
    for path, target in adapter.targets.items():
        if target.kind == "model":
            yield path, target, State(method, target, _tensors(adapter, path, model, trainable), weight, trainable)
    numbers = {path: method.number(method.config(adapter.config), path) for p in parts.values() for path in p.targets}
    now = {name: current(model, part) for name, part in parts.items()}
    named = {new: old for name, p in parts.items() for new, old in zip(now[name].targets, p.targets, strict=True)}
    sites = {path: target for part in now.values() for path, target in part.targets.items()}
    for path, found in sites.items():
        own = adapter.targets.get(path, Target(path, found.kind, found.shape, adapter.config))
        experts = {i: _frozen(part, path, model) for i, part in enumerate(now.values()) if path in part.targets}
        tensors = _tensors(adapter, path, model, trainable) if path in adapter.targets else {}
        number = numbers[named[path]]
        yield path, own, Site(method, own, tensors, weight, trainable, number, experts, len(parts), signal)


def _tensors(adapter: Adapter, path: str, model: nn.Module, trainable: bool) -> dict[str, torch.Tensor]:
    return adapter.at(path) if trainable else widened(adapter.at(path), model)


def _frozen(part: Adapter, path: str, model: nn.Module) -> State:
    return State(plugins.method(part.method), part.targets[path], widened(part.at(path), model), 1.0, False)


def backbone_of(model: Any) -> nn.Module:
    """The part of a transformers model that gives hidden states. Raises `Unsupported`."""
    config = getattr(model, "config", None)
    if not isinstance(getattr(model, "base_model", None), nn.Module) or config is None:
        raise Unsupported("a gate that reads hidden states works on transformers models, which know their backbone")
    if getattr(config, "is_encoder_decoder", False):
        raise Unsupported(
            "a gate that reads hidden states has one weight for each token, and in an encoder-decoder model layers see "
            "two sequences; `arrow` and `lora-soups` need no hidden states"
        )
    return model.base_model  # type: ignore[no-any-return]


def _mount(model: nn.Module, method: Gate, state: State, signal: Signal) -> Undo:
    """Put the gate's own tensors on the model and its pass before the backbone."""
    backbone = backbone_of(model)
    signal.probe = float(getattr(state.cfg, "probe", 0.0))
    model.add_module(SLOT, state)
    hooks = [
        backbone.register_forward_pre_hook(_Pass(model, backbone, state, signal), with_kwargs=True),
        model.register_forward_hook(_Done(signal), always_call=True),
    ]

    def undo() -> None:
        for hook in hooks:
            hook.remove()
        carry_no_more(checkpointed(model))
        del model._modules[SLOT]

    return undo


class _Done:
    """After a forward its weights are forgotten; layers that are recomputed carry them."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal

    def __call__(self, model: nn.Module, args: Any, output: Any) -> None:
        take(self.signal)


class _Pass:
    """The base alone, before the forward itself; then the gate, which reads its last hidden states."""

    def __init__(self, model: Any, backbone: Any, state: State, signal: Signal) -> None:
        self.model, self.state, self.signal = model, state, signal
        self.names = list(inspect.signature(type(backbone).forward).parameters)[1:]
        self.blocks = checkpointed(backbone)
        self.generates = bool(getattr(model, "can_generate", lambda: False)())

    def __call__(self, backbone: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = {**dict(zip(self.names, args, strict=False)), **kwargs}
        own = {k: v for k, v in kwargs.items() if k not in {"output_hidden_states", "output_attentions"}}
        if "past_key_values" in self.names:
            self._cached(backbone, kwargs)
            cache = kwargs.get("past_key_values")
            beside = None if cache is None else further(cache, _depth(backbone))
            own |= {"past_key_values": beside, "use_cache": beside is not None}
        learned = next(self.state.parameters())
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            if learned.requires_grad and reentrant(self.blocks):
                raise Unsupported(
                    f"`{self.state.method.name}`: its weights come from outside of the blocks that are recomputed, and "
                    "with `use_reentrant=True` each block would run backward through them again; say "
                    '`gradient_checkpointing_enable({"use_reentrant": False})`'
                )
            carry(self.blocks)
        before = put(self.signal, PASS)
        renew(self.model)
        try:
            with torch.no_grad():
                hidden = backbone.forward(**own)[0]
        finally:
            restore(before)
        put(self.signal, self.state.method.scalings(hidden.to(learned.dtype), self.state, self.state.cfg))
        return (), kwargs

    def _cached(self, backbone: Any, kwargs: dict[str, Any]) -> None:
        """A cache that the backbone would make itself is made here, so that it has room for both."""
        wanted = kwargs.get("use_cache")
        wanted = getattr(backbone.config, "use_cache", False) if wanted is None else wanted
        if kwargs.get("past_key_values") is None and wanted and self.generates and not backbone.training:
            from transformers import DynamicCache

            kwargs["past_key_values"] = DynamicCache(config=backbone.config)


def _depth(backbone: nn.Module) -> int:
    return int(places.text_config(backbone).num_hidden_layers)


def further(cache: Any, depth: int) -> Any:
    """The layers of `cache` behind those of the model, as a cache of their own, whose keys and values are kept there.

    Raises `Unsupported` for a cache that was filled without the gate.
    """
    from transformers import Cache

    layers = getattr(cache, "layers", None)
    if not isinstance(layers, list):
        raise Unsupported(f"a gate needs a cache with layers, not a `{type(cache).__name__}`")
    if len(layers) <= depth and not cache.get_seq_length():
        while len(layers) < depth:
            layers.append(cache.layer_class_to_replicate())
        layers.extend(copy.deepcopy(layer) for layer in layers[:depth])
    beside = Cache(layers=layers[depth:])
    if len(layers) != 2 * depth or beside.get_seq_length() != cache.get_seq_length():
        raise Unsupported(
            f"the cache has {cache.get_seq_length()} tokens that this gate has not seen: fill it with the gate attached"
        )
    return beside
