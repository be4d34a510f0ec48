"""Rows of a prompt at places inside the text: each token of one id, the slot, is read as a row, in their order.

The text has the length, the padding, the positions and the cache that it has anyway; only what its slots are embedded
as is the prompt's. They stand in what an invocation begins with: a hook on the model, or on its encoder, counts them
there, and nothing is to be predicted at them.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from adaptr import targets
from adaptr.errors import Unsupported, UsageError, phrases
from adaptr.host.call import find, put, take
from adaptr.host.state import State
from adaptr.sites.base import Undo
from adaptr.sites.prompt import SLOT, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from adaptr.adapter import Target
    from adaptr.contract import Mount
    from adaptr.families.base import Method


class Slots(Prompt):
    name = "slots"

    def check(self, model: nn.Module, method: Method, mount: Mount, target: Target, trains: bool) -> None:
        super().check(model, method, mount, target, trains)
        slot, words = target.config["slot"], cast(nn.Embedding, targets.words_of(model)).num_embeddings
        if slot >= words:
            raise Unsupported(
                f"`{method.name}`: its slot is the token {slot}, and the base has {words}", hint=phrases.BASE
            )

    def mount(self, model: nn.Module, key: str, state: State) -> Undo:
        two = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        stack = cast("PreTrainedModel", model).get_encoder() if two else model
        marked = _Marked(stack, state)
        hooks = [
            stack.register_forward_pre_hook(marked.before, with_kwargs=True),
            stack.register_forward_hook(marked.after, always_call=True),
            targets.words_of(model).register_forward_hook(marked.embedded),
        ]
        model.add_module(SLOT, state)

        def undo() -> None:
            for hook in hooks:
                hook.remove()
            del model._modules[SLOT]

        return undo


class _Marked:
    """The hooks of one prompt: on the stack that reads the text, and on its table of words."""

    def __init__(self, stack: nn.Module, state: State) -> None:
        self.state, self.slot = state, int(state.cfg.slot)
        self.names = list(inspect.signature(type(stack).forward).parameters)[1:]

    def before(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[()], dict[str, Any]]:
        given = {**dict(zip(self.names, args, strict=False)), **kwargs}
        ids, cache = given.get("input_ids"), given.get("past_key_values")
        if ids is None:
            raise Unsupported(
                f"`{self.state.method.name}` stands where a text has the token {self.slot}, and embeddings have no "
                "tokens",
                hint="give the model `input_ids`",
            )
        begins = cache is None or not int(cache.get_seq_length())
        self._counted(ids, self.state.cfg.tokens if begins else 0)
        put(self, begins)
        labels = given.get("labels")
        if labels is not None and labels.shape == ids.shape:
            given["labels"] = labels.masked_fill(ids == self.slot, -100)
        return (), given

    def _counted(self, ids: Tensor, wanted: int) -> None:
        """Raises `UsageError` for a text with more or fewer slots than there are rows."""
        wrong = (found := (ids == self.slot).sum(1))[found != wanted]
        if len(wrong):
            raise UsageError(
                f"`{self.state.method.name}`: {'the text' if wanted else 'what stands behind a cache'}",
                verb="has",
                got=f"{int(wrong[0])} slots (the token {self.slot})",
                want=f"{wanted}, one for each row of the prompt" if wanted else "none",
                hint="put all of them where the prompt is to stand, into what the model is given first",
            )

    def embedded(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """The table's output (batch, tokens, d) with the prompt in its slots."""
        if not find(self):  # behind a cache, or of a decoder that has the same table
            return None
        at = args[0] == self.slot
        number = (at.cumsum(1) - 1).clamp(min=0)
        prompt = self.state.method.prompt(self.state, self.state.cfg).to(output)
        width, last = prompt.shape[-1], prompt.shape[-2] - 1
        places = number.clamp(max=last)[..., None].expand(-1, -1, width)
        return torch.where(at[..., None], prompt.expand(len(at), -1, -1).gather(1, places), output)

    def after(self, module: nn.Module, args: object, output: object) -> None:
        take(self)


SITE = Slots()
