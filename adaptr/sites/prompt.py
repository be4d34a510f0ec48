"""Hosting of soft prompts: P embeddings in front of the text, so that plain `forward` and `generate` work.

A pre-hook on the model embeds the ids, puts the prompt in front and extends mask, labels and positions; a forward hook
drops the P rows from the outputs again. With a filled cache nothing is put in front and only the mask is extended. In
encoder-decoder models the prompt goes to the encoder, and the decoder's view of the encoder mask is extended.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adaptr import targets
from adaptr.errors import AlreadyAttached, Unsupported
from adaptr.host.call import put, take
from adaptr.host.positions import first_position, positions_of
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


class Embed:
    """The two hooks of one prompt. Holds the embedding table by its own module, so that deepcopy follows.

    `ahead`: how many of the text's own tokens stay in front of it.
    """

    def __init__(self, model: Any, state: State) -> None:
        self.table, self.state = model.get_input_embeddings(), state
        self.ahead = int(getattr(state.cfg, "ahead", 0))
        self.names = list(inspect.signature(type(model).forward).parameters)[1:]
        self.pools = isinstance(getattr(model, "score", None), nn.Module)  # classifies the last token
        self.first = first_position(model)

    def hooks(self, model: nn.Module) -> list[Any]:
        return [
            model.register_forward_pre_hook(self.before, with_kwargs=True),
            model.register_forward_hook(self.after, with_kwargs=True, always_call=True),
        ]

    @property
    def tokens(self) -> Tensor:
        found: Tensor = self.state.method.prompt(self.state, self.state.cfg)
        return found

    @property
    def labels(self) -> list[int]:
        """What of the prompt itself is learned, where something is."""
        return list(self.state.method.labels(self.state.cfg)) if self.state.training else []

    def before(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        count, kwargs = self.extended(args, kwargs)
        put(self, count)
        return (), kwargs

    def extended(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """How many rows the outputs have that are not to be seen, and what the model is called with."""
        kwargs = {**dict(zip(self.names, args, strict=False)), **kwargs}
        prompt = self.tokens
        P, cache = prompt.shape[0], kwargs.get("past_key_values")
        past = cache.get_seq_length() if cache is not None else 0
        ids, embeds = kwargs.pop("input_ids", None), kwargs.pop("inputs_embeds", None)
        embeds = self.table(ids) if embeds is None else embeds
        batch, T = embeds.shape[:2]
        mask = kwargs.get("attention_mask")
        if mask is None:
            mask = torch.ones(batch, T + max(past - P, 0), dtype=torch.long, device=embeds.device)
        if mask.ndim != 2:
            raise Unsupported(
                "the attention mask",
                got=f"{mask.ndim}-d",
                want="a 2-d attention mask, which prompts need",
                hint="use a dynamic cache: a static cache gives a ready-made 4-d one",
            )
        if self.pools and batch > 1 and bool((mask[:, -1] == 0).any()):
            raise Unsupported(
                "a prompt on a classifier of the last token needs left padding",
                hint="set the tokenizer's `padding_side` to `left`",
            )
        self._require_begun(mask)
        text, mask = mask, self.among(mask, mask.new_ones(batch, P))
        if not past:
            embeds = self.among(embeds, prompt.to(embeds).expand(batch, -1, -1))
            if kwargs.get("labels") is not None and kwargs["labels"].shape[:2] == (batch, T):
                own = kwargs["labels"].new_tensor(self.labels or [-100] * P)
                kwargs["labels"] = self.among(kwargs["labels"], own.expand(batch, -1))
            if kwargs.get("token_type_ids") is not None:
                types = kwargs["token_type_ids"]
                kwargs["token_type_ids"] = self.among(types, types.new_zeros(batch, P))
        if "position_ids" in self.names:
            kwargs["position_ids"] = self.positions(mask, text, 0 if past else P, T, kwargs.get("position_ids"))
        return 0 if past else P, {**kwargs, "inputs_embeds": embeds, "attention_mask": mask}

    def among(self, columns: Tensor, rows: Tensor) -> Tensor:
        """Columns (batch, tokens ...) of the text with those of the prompt (batch, P ...) in their place."""
        return torch.cat([columns[:, : self.ahead], rows, columns[:, self.ahead :]], dim=1)

    def without(self, columns: Tensor, count: int) -> Tensor:
        """Columns without those of the prompt."""
        rest = columns[:, self.ahead + count :]
        return torch.cat([columns[:, : self.ahead], rest], dim=1) if self.ahead else rest

    def positions(self, mask: Tensor, text: Tensor, count: int, length: int, given: Tensor | None) -> Tensor:
        """Of `count` rows of the prompt and `length` tokens, the last of `mask`. `text`: the mask of the text alone;
        `given`: the positions that the call gave.
        """
        return positions_of(mask, self.first, count + length)

    def _require_begun(self, mask: Tensor) -> None:
        if self.ahead and bool((mask[:, : self.ahead] == 0).any()):
            raise Unsupported(
                f"the prompt stands behind the first {self.ahead} of the text, and texts begin with padding here",
                hint="set the tokenizer's `padding_side` to `right`",
            )

    def after(self, model: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        P = take(self)
        shares = self.state.method.shares(self.state.cfg) if P and self.state.training else ()
        if shares and kwargs.get("labels") is not None and getattr(output, "loss", None) is not None:
            output["loss"] = output["loss"] * _share(output["logits"], kwargs["labels"], shares)
        if P and hasattr(output, "items"):
            length = kwargs["inputs_embeds"].shape[1]
            for name, value in output.items():
                if isinstance(value, Tensor) and value.ndim >= 2 and value.shape[1] == length:
                    output[name] = self.without(value, P)
        return output


def _share(logits: Tensor, labels: Tensor, shares: Sequence[float]) -> Tensor:
    """What is left of the sum over tokens that are predicted where the prompt's count these shares, the text's 1."""
    each = cross_entropy(logits[:, :-1].float().mT, labels[:, 1:], reduction="none")  # 0 where nothing is predicted
    counts = each.new_ones(labels.shape[1])
    counts[: len(shares)] = each.new_tensor(shares)
    return (each * counts[1:]).sum() / each.sum()


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
