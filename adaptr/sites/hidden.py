"""Before a model's forward: a pass of the base alone, whose last hidden states a gate reads.

The pass runs in a pre-hook of the model's backbone, with the arguments that the backbone gets, experts silent. With a
cache, its keys and values are further layers of the same cache: whatever becomes of the cache (beams, crops, copies)
becomes of both, and decoding token by token is what a forward of the whole text is.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adaptr import targets as places
from adaptr.errors import AlreadyAttached, Unsupported
from adaptr.host.call import carry, carry_no_more, checkpointed, put, reentrant, restore, take
from adaptr.host.entrance import renew
from adaptr.host.further import further
from adaptr.host.signal import PASS, Signal, signal_of
from adaptr.host.state import State
from adaptr.sites.base import OnModel, Undo

if TYPE_CHECKING:
    from adaptr.adapter import Target
    from adaptr.contract import Mount
    from adaptr.families.base import Method
    from adaptr.host.mounting import Mounting

SLOT = "_adaptr_gate"


class Hidden(OnModel):
    name = "hidden"

    def check(self, model: nn.Module, method: Method, mount: Mount, target: Target, trains: bool) -> None:
        super().check(model, method, mount, target, trains)
        backbone_of(model)
        if SLOT in model._modules:
            raise AlreadyAttached(
                "there is a gate on this model already, and its pass would run inside this one's",
                hint="detach it first",
            )

    def state(self, mounting: Mounting, mount: Mount, target: Target) -> State:
        made, signal = super().state(mounting, mount, target), signal_of(mounting)
        signal.probe = float(getattr(made.cfg, "probe", 0.0))
        made.__dict__["signal"] = signal
        return made

    def mount(self, model: nn.Module, key: str, state: State) -> Undo:
        backbone, signal = backbone_of(model), state.__dict__["signal"]
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


def backbone_of(model: Any) -> nn.Module:
    """The part of a transformers model that gives hidden states. Raises `Unsupported`."""
    config = getattr(model, "config", None)
    if not isinstance(getattr(model, "base_model", None), nn.Module) or config is None:
        raise Unsupported(
            "a gate that reads hidden states works on transformers models, which know their backbone",
            hint="`arrow` and `lora-soups` need no hidden states",
        )
    if getattr(config, "is_encoder_decoder", False):
        raise Unsupported(
            "a gate that reads hidden states has one weight for each token, and in an encoder-decoder model "
            "layers see two sequences",
            hint="`arrow` and `lora-soups` need no hidden states",
        )
    return model.base_model  # type: ignore[no-any-return]


class _Done:
    """After a forward its weights are forgotten; layers that are recomputed carry them."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal

    def __call__(self, model: nn.Module, args: object, output: object) -> None:
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
            beside = None if cache is None else further(cache, _depth(backbone), cache.get_seq_length())
            own |= {"past_key_values": beside, "use_cache": beside is not None}
        learned = next(self.state.parameters())
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            if learned.requires_grad and reentrant(self.blocks):
                raise Unsupported(
                    f"`{self.state.method.name}`: its weights come from outside of the blocks that are "
                    "recomputed, and with `use_reentrant=True` each block would run backward through them again",
                    hint='say `gradient_checkpointing_enable({"use_reentrant": False})`',
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


SITE = Hidden()
