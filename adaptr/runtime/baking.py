"""Virtual tokens in a cache: made once, for generations of the base without the adapter attached.

A prompt in front of a decoder's text has keys and values that don't depend on the text, and a prefix is nothing else.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import plugins
from adaptr.errors import Unsupported
from adaptr.host.live import model_of
from adaptr.sources.given import opened

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import DynamicCache

    from adaptr.sources.given import Given


@dataclass(frozen=True)
class Baked:
    """A cache of `tokens` virtual tokens.

    `model.generate(ids, attention_mask=baked.mask(mask), past_key_values=baked.cache(len(ids)))` is what the model with
    the adapter attached generates. Without that mask, generating leaves out the first tokens of the text.
    """

    filled: DynamicCache
    tokens: int

    def cache(self, batch: int = 1) -> DynamicCache:
        """One of its own for each call, which fills it; `batch`: of all rows, each beam being one."""
        made = copy.deepcopy(self.filled)
        made.batch_repeat_interleave(batch)
        return made

    def mask(self, mask: Tensor) -> Tensor:
        """An attention mask (batch, tokens) with the virtual tokens in front, which are all seen."""
        import torch

        return torch.cat([mask.new_ones(len(mask), self.tokens), mask], 1)


def bake(model: nn.Module, adapter: Given) -> Baked:
    """The virtual tokens of `adapter`, a prompt or prefix, as a cache for `model`: keys and values (1, heads, tokens,
    width) a layer.

    Raises `Unsupported` for what is neither, for models whose text is no decoder's, and where a cache can't say it.
    """
    model = model_of(model)
    found = opened(adapter, model)
    method = plugins.method(found.method)
    config = getattr(model, "config", None)
    decodes = getattr(model, "can_generate", bool)() and not getattr(config, "is_encoder_decoder", False)
    if not method.supplies("filled") or not decodes:
        raise Unsupported(
            f"`{found.method}` on a `{type(model).__name__}` is no cache that a text goes on from",
            want="a prompt or a prefix, on a decoder",
            hint="keep it attached",
        )
    made = method.filled(model, method.materialised(method.placed(model, found)))
    return Baked(made, made.get_seq_length())
