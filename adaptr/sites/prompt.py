"""Hosting of soft prompts: P embeddings in front of the text, so that plain `forward` and `generate` work.

A pre-hook on the model embeds the ids, puts the prompt in front and extends mask, labels and positions; a forward hook
drops the P rows from the outputs again. With a filled cache nothing is put in front and only the mask is extended. In
encoder-decoder models the prompt goes to the encoder, and the decoder's view of the encoder mask is extended.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adaptr import targets
from adaptr.errors import AlreadyAttached, Unsupported
from adaptr.host.prompted import Embed
from adaptr.host.state import State
from adaptr.sites.base import OnModel, Undo
from adaptr.targets import text_config

if TYPE_CHECKING:
    from adaptr.adapter import Target
    from adaptr.contract import Mount
    from adaptr.families.base import Method

SLOT = "_adaptr_prompt"


class Prompt(OnModel):
    name = "prompt"

    def check(self, model: nn.Module, method: Method, mount: Mount, target: Target, trains: bool) -> None:
        super().check(model, method, mount, target, trains)
        if SLOT in model._modules:
            raise AlreadyAttached(
                "there is a prompt on this model already", hint="concatenate the two into one adapter"
            )
        if text_config(model) is None or not hasattr(model, "get_input_embeddings"):
            raise Unsupported(
                "prompts work on transformers models, which know their input embeddings",
                hint="choose a method that changes weights",
            )
        targets.words_of(model)

    def mount(self, model: nn.Module, key: str, state: State) -> Undo:
        model.add_module(SLOT, state)
        hooks = self.hooks(model, state)

        def undo() -> None:
            for hook in hooks:
                hook.remove()
            del model._modules[SLOT]

        return undo

    def hooks(self, model: nn.Module, state: State) -> list[Any]:
        """What is registered on the model, to be removed."""
        return _mount_two(model, state) if two_stacks(model) else Embed(model, state).hooks(model)


def two_stacks(model: nn.Module) -> bool:
    """Whether a model is of an encoder and a decoder."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def _mount_two(model: Any, state: State) -> list[Any]:
    encoder, decoder = model.get_encoder(), model.get_decoder()
    return [
        encoder.register_forward_pre_hook(_Encoder(encoder, state), with_kwargs=True),
        decoder.register_forward_pre_hook(_Decoder(decoder), with_kwargs=True),
    ]


class _Encoder(Embed):
    """A pre-hook of an encoder: the prompt in front of its input."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return (), self.extended(args, kwargs)[1]


class _Decoder:
    """A pre-hook of a decoder: the encoder's output is longer than the mask that the caller made."""

    def __init__(self, decoder: nn.Module) -> None:
        self.names = list(inspect.signature(type(decoder).forward).parameters)[1:]

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = {**dict(zip(self.names, args, strict=False)), **kwargs}
        mask, states = kwargs.get("encoder_attention_mask"), kwargs.get("encoder_hidden_states")
        if mask is not None and states is not None and states.shape[1] > mask.shape[1]:
            missing = mask.new_ones(mask.shape[0], states.shape[1] - mask.shape[1])
            kwargs["encoder_attention_mask"] = torch.cat([missing, mask], dim=1)
        return (), kwargs


SITE = Prompt()
