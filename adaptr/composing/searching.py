"""Weights found on data: adapters are attached to the base together, and their strengths tried out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter.weighting import Layers, scaled
from adaptr.composing.examples import encoded, examples
from adaptr.composing.parents import Parent
from adaptr.errors import UsageError
from adaptr.models.load import loaded
from adaptr.strategies.base import Strategy

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def searched(
    strategy: Strategy, cfg: Any, given: Sequence[Parent], base: Path | PreTrainedModel | None
) -> list[Parent]:
    """The same inputs at the weights that the strategy finds on `cfg.data`, times those that were given."""
    if base is None:
        raise UsageError(
            f"strategy `{strategy.name}` tries weights on the model, and there is none", hint="give the base (`--base`)"
        )
    rows = examples(Path(cfg.data))
    model, tokenizer = loaded(base)
    tokens = [_tokens(tokenizer, prompt, text, model) for prompt, text in rows]
    layers = Layers(target.path for parent in given for _, target in parent.adapter.all_targets)
    with ExitStack() as stack:
        hooks = [plugins.hooks(parent.adapter.method) for parent in given]
        handles = [
            stack.enter_context(hook.apply(model=model, adapter=parent.adapter, weight=1.0))
            for hook, parent in zip(hooks, given, strict=True)
        ]

        def loss(weights: Sequence[float]) -> float:
            for handle, parent, weight in zip(handles, given, weights, strict=True):
                strength = functools.partial(layers.weight, scaled(parent.weight, weight), label=parent.label)
                handle.weigh(strength)
            return _loss(model, tokens)

        found = strategy.search(loss, len(given), cfg)
    pairs = zip(given, found, strict=True)
    return [replace(parent, weight=scaled(parent.weight, weight)) for parent, weight in pairs]


def _tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: str, text: str, model: PreTrainedModel
) -> tuple[Tensor, Tensor]:
    """(input ids, labels), (1, n) each."""
    import torch

    ids, labels = (torch.tensor([one]).to(model.device) for one in encoded(tokenizer, prompt, text))
    return ids, labels


def _loss(model: PreTrainedModel, tokens: Sequence[tuple[Any, Any]]) -> float:
    import torch

    with torch.no_grad():
        losses = [float(model(input_ids=ids, labels=labels).loss) for ids, labels in tokens]
    return sum(losses) / len(losses)
