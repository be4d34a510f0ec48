"""Calls of a model whose text has the rows of a prompt among it: embeddings, mask, labels, positions, and outputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adaptr.errors import Unsupported
from adaptr.host.call import put, take
from adaptr.host.positions import first_position, positions_of

if TYPE_CHECKING:
    from adaptr.host.state import State

#: Arguments that say where something is in the text, and all that are about its tokens.
_ANSWERS = frozenset({"start_positions", "end_positions"})
_BESIDE = ("labels", "token_type_ids", *sorted(_ANSWERS))
#: The argument that says of which tokens logits are wanted.
_KEPT = "logits_to_keep"
#: Outputs (batch, tokens); others (batch, n) are of a whole text, whatever n is.
_SPANS = frozenset({"start_logits", "end_logits"})


class Embed:
    """The two hooks of one prompt. Holds the embedding table by its own module, so that deepcopy follows.

    `ahead`: how many of the text's own tokens stay in front of it.
    """

    def __init__(self, model: Any, state: State) -> None:
        self.table, self.state = model.get_input_embeddings(), state
        self.ahead = int(getattr(state.cfg, "ahead", 0))
        self.names = list(inspect.signature(type(model).forward).parameters)[1:]
        self.pools = isinstance(getattr(model, "score", None), nn.Module)  # classifies the last token
        self.judges = type(model).__name__.endswith("ForPreTraining")  # a logit of each token
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
        if kwargs.get("return_dict", getattr(model.config, "return_dict", True)) is False:
            raise Unsupported(
                "a model with a prompt puts out a tuple, which does not say what is of tokens",
                hint="leave out `return_dict=False`",
            )
        put(self, count)
        return (), kwargs

    def extended(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """How many rows the outputs have that are not to be seen, and what the model is called with."""
        kwargs = {**dict(zip(self.names, args, strict=False)), **kwargs}
        prompt = self.tokens
        P, cache = prompt.shape[-2], kwargs.get("past_key_values")
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
        if self.pools and bool((mask[:, -1] == 0).any()):
            raise Unsupported(
                "a prompt on a classifier of the last token needs left padding",
                hint="set the tokenizer's `padding_side` to `left`",
            )
        self._require_begun(mask)
        text, mask = mask, self.among(mask, mask.new_ones(batch, P))
        if not past:
            embeds = self.among(embeds, prompt.to(embeds).expand(batch, -1, -1))
            kwargs |= self.beside({name: kwargs[name] for name in _BESIDE if kwargs.get(name) is not None}, T, P)
            kwargs |= self.kept(kwargs.get(_KEPT), T, P)
        if "position_ids" in self.names:
            kwargs["position_ids"] = self.positions(mask, text, 0 if past else P, T, kwargs.get("position_ids"))
        return 0 if past else P, {**kwargs, "inputs_embeds": embeds, "attention_mask": mask}

    def beside(self, said: Mapping[str, Tensor], length: int, count: int) -> dict[str, Tensor]:
        """What is said of `length` tokens, with `count` rows among them: labels, types, and where answers are."""
        found = dict(said)
        labels, types = said.get("labels"), said.get("token_type_ids")
        of_tokens = labels is not None and labels.ndim > 1 and not labels.is_floating_point()
        if labels is not None and of_tokens and labels.shape[1] == length:
            found["labels"] = self.among(
                labels, labels.new_tensor(self.labels or [-100] * count).expand(len(labels), -1)
            )
        if types is not None:
            found["token_type_ids"] = self.among(types, types.new_zeros(len(types), count))
        for name in _ANSWERS & said.keys():
            found[name] = said[name] + count * (said[name] >= self.ahead)
        return found

    def kept(self, said: int | Tensor | None, length: int, count: int) -> dict[str, Any]:
        """Of which of `length` tokens logits are wanted, by number or as many of the last."""
        if isinstance(said, int) and said and (self.ahead or said > length):
            said = torch.arange(max(length - said, 0), length)
        return {_KEPT: said + count * (said >= self.ahead)} if isinstance(said, Tensor) else {}

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
        if mask.shape[1] < self.ahead:
            raise Unsupported(
                f"the prompt stands behind the first {self.ahead} tokens of the text, and a text has {mask.shape[1]} "
                "here",
                hint="give it longer texts, or a prompt with a smaller `ahead`",
            )
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
                if name == "hidden_states" and value is not None:
                    output[name] = tuple(self.without(one, P) for one in value)
                elif isinstance(value, Tensor) and self._of_tokens(name, value) and value.shape[1] == length:
                    output[name] = self.without(value, P)
        return output

    def _of_tokens(self, name: str, value: Tensor) -> bool:
        """Whether an output has something of each token: as many labels as there are tokens are none."""
        return value.ndim > 2 or name in _SPANS or (name == "logits" and value.ndim == 2 and self.judges)


def _share(logits: Tensor, labels: Tensor, shares: Sequence[float]) -> Tensor:
    """What is left of the sum over tokens that are predicted where the prompt's count these shares, the text's 1."""
    each = cross_entropy(logits[:, :-1].float().mT, labels[:, 1:], reduction="none")  # 0 where nothing is predicted
    counts = each.new_ones(labels.shape[1])
    counts[: len(shares)] = each.new_tensor(shares)
    return (each * counts[1:]).sum() / each.sum()
