"""The keys and values of a running batch, on transformers' `DynamicCache`: rows join and leave, padding is on the left.

All rows end at the same place. A row that joins a longer batch gets padding before it; when the longest leaves, what is
padding in all rows is cut off.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel

_ORIGINAL = "original_max_position_embeddings"


class Running:
    """Rows with a cache. `mask` (rows, length): 1 where a token is. `positions`: the most of a row, None for any."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = getattr(model, "config", None)
        if config is None or getattr(config, "is_encoder_decoder", False):
            raise Unsupported(
                "`generate` of a pool works on decoder-only transformers models", hint="use `rows` on others"
            )
        self.model, self.cache = model, _fresh(model)
        self.mask = torch.zeros((0, 0), dtype=torch.long)
        accepted = inspect.signature(model.forward).parameters
        self.positions = _positions(config)
        self._positioned = "position_ids" in accepted
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def __len__(self) -> int:
        return self.mask.shape[0]

    def prefill(self, prompts: Sequence[Tensor]) -> Tensor:
        """The logits after each prompt, (rows, vocabulary); this batch must be empty."""
        longest = max(len(p) for p in prompts)
        ids = torch.stack([pad(p, (longest - len(p), 0)) for p in prompts])
        lengths = torch.tensor([len(p) for p in prompts])
        self.mask = (torch.arange(longest) >= longest - lengths[:, None]).long()
        return self._forward(ids)

    def step(self, tokens: Sequence[int]) -> Tensor:
        """The logits after one more token for each row."""
        self.mask = pad(self.mask, (0, 1), value=1)
        return self._forward(torch.tensor(tokens)[:, None])

    def _forward(self, ids: Tensor) -> Tensor:
        device = next(self.model.parameters()).device
        positions = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        given = {"position_ids": positions.to(device)} if self._positioned else {}
        out = self.model(
            input_ids=ids.to(device),
            attention_mask=self.mask.to(device),
            past_key_values=self.cache,
            use_cache=True,
            **given,
            **self._last,
        )
        found: Tensor = out.logits[:, -1].float()
        return found

    def join(self, other: Running) -> None:
        """Take the rows of another batch in, behind those that are here."""
        if not len(self):
            self.cache, self.mask = other.cache, other.mask
            return
        length = max(self.mask.shape[1], other.mask.shape[1])
        self.mask = torch.cat([_left(m, length, 1) for m in (self.mask, other.mask)])
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys = torch.cat([_left(t, length, 2) for t in (mine.keys, theirs.keys)])
            mine.values = torch.cat([_left(t, length, 2) for t in (mine.values, theirs.values)])

    def keep(self, rows: Sequence[int]) -> None:
        """Let all other rows go."""
        if not rows:
            self.cache, self.mask = _fresh(self.model), self.mask[:0, :0]
            return
        chosen = torch.tensor(rows)
        mask = self.mask[chosen]
        start = int(mask.any(0).nonzero()[0])
        self.mask = mask[:, start:]
        for layer in self.cache.layers:
            chosen = chosen.to(layer.keys.device)
            layer.keys = layer.keys.index_select(0, chosen)[:, :, start:]
            layer.values = layer.values.index_select(0, chosen)[:, :, start:]


def _positions(config: object) -> int | None:
    """How many tokens a row may have before a model has no position for it, or has other ones for the whole batch.

    Where rotary frequencies follow the longest row of a batch, that is as far as they are those of training.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    rotary = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    found = [getattr(text, name, None) for name in ("max_position_embeddings", "max_seq_len")]
    for one in (rotary, *(each for each in rotary.values() if isinstance(each, dict))):
        if one.get("rope_type") in {"dynamic", "longrope"}:
            found += [one.get(_ORIGINAL), getattr(text, _ORIGINAL, None)]
    return min((n for n in found if isinstance(n, int) and n > 0), default=None)


def _fresh(model: PreTrainedModel) -> DynamicCache:
    """An empty cache. Raises `Unsupported` for models whose cache has layers of another kind."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache(config=model.config)
    other = next((layer for layer in cache.layers if type(layer) is not DynamicLayer), None)
    if other is not None:
        raise Unsupported(
            f"the cache of this model has layers of the kind `{type(other).__name__}`, in which rows of "
            "different lengths can't join",
            hint="use `rows` with the model's own `generate`",
        )
    return cache


def _left(tensor: Tensor, length: int, dim: int) -> Tensor:
    """Zeros before `tensor` along `dim`."""
    behind = (0, 0) * (tensor.ndim - 1 - dim)
    return pad(tensor, (*behind, length - tensor.shape[dim], 0))
