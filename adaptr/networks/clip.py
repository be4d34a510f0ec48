"""Text encoders: transformers' CLIP, with `text_model` before its modules and without, and OpenCLIP's, whose q, k and v
are one parameter.
"""

from __future__ import annotations

from collections.abc import Iterator

from adaptr.networks.table import Spelling, Table

_LAYER = (
    ("self_attn.q_proj", "attn.in_proj"),
    ("self_attn.k_proj", "attn.in_proj"),
    ("self_attn.v_proj", "attn.in_proj"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
)
TABLE = Table(
    [
        *((f"encoder.layers.#.{left}", f"transformer.resblocks.#.{right}") for left, right in _LAYER),
        ("embeddings.token_embedding", "token_embedding"),
        ("final_layer_norm", "ln_final"),
    ]
)
MODEL = "text_model."


def others(path: str) -> Iterator[Spelling]:
    short = path.removeprefix(MODEL)
    yield Spelling((short if short != path else f"{MODEL}{path}",))
    for found in TABLE.others(short):
        yield found
        yield Spelling(tuple(f"{MODEL}{one}" for one in found.paths), found.part)
