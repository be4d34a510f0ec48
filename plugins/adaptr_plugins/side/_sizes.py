"""What blocks of a side network are like: those of the model's blocks, each width some times narrower."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptr.contract import Costs
from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from torch import nn

    from adaptr import Adapter, Target
    from adaptr_plugins.side.ladder import Config


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


def require_depth(model: nn.Module, adapter: Adapter) -> None:
    """Raises `Unsupported` where a file counts other blocks: the side's keys would lie among the model's."""
    has = sizes(model, 1)["depth"]
    wrong = next((n for one in adapter.targets.values() if (n := one.config.get("depth")) != has), has)
    if wrong != has:
        raise Unsupported(
            f"`ladder` counts {wrong} blocks in the base, which has {has}", hint="give the base it was made for"
        )


def _act(said: str) -> str:
    """Of T5's feed-forward, whose gated GELU is that of tanh."""
    return next((name for name in ("gelu", "relu") if name in said), "silu")


def numbered(stacks: Sequence[Sequence[Target]]) -> list[Target]:
    """The targets of one stack, or of an encoder and its decoder, each with where it is in its own."""
    of_two: list[dict[str, Any]] = [{"encodes": True, "causal": False}, {"cross": True, "causal": True}]
    return [
        replace(one, config={**one.config, **said, "number": i, "ends": one is stack[-1]})
        for stack, said in zip(stacks, of_two if len(stacks) == 2 else [{}], strict=True)
        for i, one in enumerate(stack)
    ]


def costs(width: int, cfg: Config) -> Costs:
    """Of a block beside one of that width, and of what is read for it."""
    s, a, c = width // cfg.reduction, cfg.heads * cfg.head, cfg.groups * cfg.head
    first = width if not cfg.number else 0
    layers = s * width + 2 * s * (a + c) * (1 + cfg.cross) + (2 + cfg.gated) * s * cfg.inner
    return Costs(token=first + width + 8 * s + 5 * a + c + 4 * cfg.inner, flops=2 * layers, apart=True)
