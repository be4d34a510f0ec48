"""What blocks of a side network are like: those of the model's blocks, each width some times narrower."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def sizes(model: nn.Module, reduction: int) -> dict[str, Any]:
    """Of blocks that are `reduction` times narrower, and how the model has its positions and its feed-forward.

    The names of configurations are the models' own, as a `Sketch` has no other. Raises no error for a model without.
    """
    from adaptr import targets as places

    config, paths = places.text_config(model), [path for path, _ in model.named_modules()]

    def said(*names: str) -> int:
        return next((int(found) for name in names if (found := getattr(config, name, None))), 0)

    def has(name: str) -> bool:
        return any(re.search(rf"(^|\.){name}$", path) for path in paths)

    width, two = places.hidden_size(model), getattr(config, "is_encoder_decoder", False)
    heads = said("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
    head = (said("head_dim", "d_kv") or width // heads) // reduction
    inner = said("intermediate_size", "n_inner", "ffn_dim", "hidden_dim", "d_ff", "decoder_ffn_dim") or 4 * width
    tables = has("wpe") or has("position_embeddings") or has("embed_positions")
    buckets = 0 if tables else said("relative_attention_num_buckets")
    causal = (getattr(module, "is_causal", None) for _, module in model.named_modules())
    depth = ("num_decoder_layers", "decoder_layers", "num_layers") if two else ()
    return {
        "heads": heads,
        "groups": said("num_key_value_heads") or heads,
        "head": max(head - head % 2, 2),
        "inner": max(inner // reduction, 1),
        "theta": 0.0 if tables or buckets else 10000.0,
        "causal": next((found for found in causal if found is not None), not buckets),
        "depth": said(*depth, "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        "gated": not has("wi"),
        "act": _act(str(getattr(config, "feed_forward_proj", "silu"))),
        "buckets": buckets,
    }


def _act(said: str) -> str:
    """Of T5's feed-forward, whose gated GELU is that of tanh."""
    return next((name for name in ("gelu", "relu") if name in said), "silu")
