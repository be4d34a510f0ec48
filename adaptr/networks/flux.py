"""Flux: diffusers' names and Black Forest Labs', whose q, k and v are one module (in single blocks with the MLP).

`norm_out.linear` has its scale first, then its shift; with Black Forest Labs it is the other way round.
"""

from __future__ import annotations

from adaptr.networks.table import Table

_DOUBLE = (
    ("attn.to_q", "img_attn.qkv"),
    ("attn.to_k", "img_attn.qkv"),
    ("attn.to_v", "img_attn.qkv"),
    ("attn.to_out.0", "img_attn.proj"),
    ("attn.add_q_proj", "txt_attn.qkv"),
    ("attn.add_k_proj", "txt_attn.qkv"),
    ("attn.add_v_proj", "txt_attn.qkv"),
    ("attn.to_add_out", "txt_attn.proj"),
    ("ff.net.0.proj", "img_mlp.0"),
    ("ff.net.2", "img_mlp.2"),
    ("ff_context.net.0.proj", "txt_mlp.0"),
    ("ff_context.net.2", "txt_mlp.2"),
    ("norm1.linear", "img_mod.lin"),
    ("norm1_context.linear", "txt_mod.lin"),
)
_SINGLE = (
    ("attn.to_q", "linear1"),
    ("attn.to_k", "linear1"),
    ("attn.to_v", "linear1"),
    ("proj_mlp", "linear1"),
    ("proj_out", "linear2"),
    ("norm.linear", "modulation.lin"),
)
_EMBEDDERS = (("timestep_embedder", "time_in"), ("guidance_embedder", "guidance_in"), ("text_embedder", "vector_in"))
TABLE = Table(
    [
        *((f"transformer_blocks.#.{left}", f"double_blocks.#.{right}") for left, right in _DOUBLE),
        *((f"single_transformer_blocks.#.{left}", f"single_blocks.#.{right}") for left, right in _SINGLE),
        *((f"time_text_embed.{left}.linear_1", f"{right}.in_layer") for left, right in _EMBEDDERS),
        *((f"time_text_embed.{left}.linear_2", f"{right}.out_layer") for left, right in _EMBEDDERS),
        ("x_embedder", "img_in"),
        ("context_embedder", "txt_in"),
        ("norm_out.linear", "final_layer.adaLN_modulation.1"),
        ("proj_out", "final_layer.linear"),
    ],
    paired=["norm_out.linear"],
)
