"""Keys and values of what runs beside a model, in the model's own cache: whatever becomes of that becomes of both."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from adaptr.errors import Unsupported

#: Layers that no model has.
_MOST = 1 << 16


def further(cache: Any, depth: int, past: int, make: Callable[[object], object] = copy.deepcopy) -> Any:
    """The layers of `cache` behind those of the model, as a cache of their own, whose keys and values are kept there.

    `past`: tokens in the cache before this call; `make`: an empty layer, from one of the model's. Raises `Unsupported`
    for a cache that was filled without the adapter.
    """
    from transformers import Cache

    cache = getattr(cache, "self_attention_cache", cache)  # a decoder's, beside that of what it reads
    layers = getattr(cache, "layers", None)
    if not isinstance(layers, list):
        raise Unsupported(
            "the cache",
            got=f"a `{type(cache).__name__}`",
            want="one with layers, which this adapter needs",
            hint="use transformers' `DynamicCache`",
        )
    if len(layers) <= depth < _MOST and not past:
        while len(layers) < depth:
            layers.append(cache.layer_class_to_replicate())
        layers.extend(make(layer) for layer in layers[:depth])
    beside = Cache(layers=layers[depth:])
    # not all of them need be at work; a `default` of `max` is nothing that torch compiles
    seen = max([0, *(beside.get_seq_length(layer) for layer in range(len(beside.layers)))])
    if len(layers) != 2 * depth or seen != past:
        raise Unsupported(
            f"the cache has {past} tokens that this adapter has not seen",
            hint="fill it with the adapter attached",
        )
    return beside
