"""Virtual tokens as the cache of a decoder, for texts that stand behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from adaptr import targets
from adaptr.adapter import kinds
from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import DynamicCache

    from adaptr.adapter import Adapter


def prompt(model: nn.Module, P: Tensor) -> DynamicCache:
    """The cache that rows P (tokens, d) leave."""
    import torch

    table = cast(Any, model).get_input_embeddings().weight
    with torch.no_grad():
        return cast("DynamicCache", model(inputs_embeds=P[None].to(table), use_cache=True).past_key_values)


def prefix(model: nn.Module, adapter: Adapter, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> DynamicCache:
    """The cache of keys and values (heads, tokens, width) by the path of an attention. Raises `Unsupported`."""
    from transformers import DynamicCache

    return DynamicCache([_pair(model, adapter, path, *pairs[path]) for path in _attentions(model, adapter)])


def pairs(model: nn.Module, adapter: Adapter, cache: DynamicCache) -> dict[str, tuple[Tensor, Tensor]]:
    """What a cache of one text holds, (heads, tokens, width), by the path of an attention. Raises `Unsupported`."""
    every = _attentions(model, adapter)
    found = [(layer.keys, layer.values) for layer in cache.layers]
    if len(found) != len(every) or any(keys is None for keys, _ in found):
        raise Unsupported(
            f"the base has {len(every)} attentions, and its cache {len(found)} layers", hint="keep the adapter attached"
        )
    own = ((keys[0].cpu().contiguous(), values[0].cpu().contiguous()) for keys, values in found)
    return dict(zip(every, own, strict=True))


def _attentions(model: nn.Module, adapter: Adapter) -> list[str]:
    """Those of a model, in their order, all of which an adapter is at."""
    every = [place.path for place in targets.resolve(model, "attention", {kinds.ATTENTION})]
    slides = "sliding_attention" in (getattr(targets.text_config(model), "layer_types", None) or ())
    if slides or set(every) != set(adapter.targets):
        why = "some of its layers forget what is far back" if slides else "it is not at all attentions of the base"
        raise Unsupported(f"`{adapter.label}` can't be in a cache: {why}", hint="keep it attached")
    return every


def _pair(model: nn.Module, adapter: Adapter, path: str, K: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values (1, heads, tokens, width) of an attention, for a text that stands behind them."""
    from adaptr.sites.shifted import rotary_of, rotation

    target, module = adapter.targets[path], targets.submodule(model, path)
    if target.config["position_offset"] == "none":
        rotary = rotary_of(model)
        if rotary is None:
            raise Unsupported(
                f"`{adapter.label}` was trained with the text at position 0, and behind a cache it stands further on",
                hint="keep it attached, or train it with `position_offset` shift",
            )
        K = K @ rotation(rotary, module, target.shape[1], K.shape[1], path).mT.to(K)
    like = next(module.parameters())
    return K[None].to(like), V[None].to(like)
