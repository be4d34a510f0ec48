"""Stable Diffusion 3: diffusers' names and Stability's, whose q, k and v are one module.

The modulations of the last layer, and of the context in the last block, are of a scale and a shift alone: with
Stability the shift comes first.
"""

from __future__ import annotations

from adaptr.networks.table import Table

_BLOCK = (
    ("attn.to_q", "x_block.attn.qkv"),
    ("attn.to_k", "x_block.attn.qkv"),
    ("attn.to_v", "x_block.attn.qkv"),
    ("attn.to_out.0", "x_block.attn.proj"),
    ("attn2.to_q", "x_block.attn2.qkv"),
    ("attn2.to_k", "x_block.attn2.qkv"),
    ("attn2.to_v", "x_block.attn2.qkv"),
    ("attn2.to_out.0", "x_block.attn2.proj"),
    ("attn.add_q_proj", "context_block.attn.qkv"),
    ("attn.add_k_proj", "context_block.attn.qkv"),
    ("attn.add_v_proj", "context_block.attn.qkv"),
    ("attn.to_add_out", "context_block.attn.proj"),
    ("ff.net.0.proj", "x_block.mlp.fc1"),
    ("ff.net.2", "x_block.mlp.fc2"),
    ("ff_context.net.0.proj", "context_block.mlp.fc1"),
    ("ff_context.net.2", "context_block.mlp.fc2"),
    ("norm1.linear", "x_block.adaLN_modulation.1"),
    ("norm1_context.linear", "context_block.adaLN_modulation.1"),
)
TABLE = Table(
    [
        *((f"transformer_blocks.#.{left}", f"joint_blocks.#.{right}") for left, right in _BLOCK),
        ("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
        ("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
        ("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0"),
        ("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2"),
        ("pos_embed.proj", "x_embedder.proj"),
        ("norm_out.linear", "final_layer.adaLN_modulation.1"),
        ("proj_out", "final_layer.linear"),
    ],
    paired=["norm_out.linear", "transformer_blocks.#.norm1_context.linear"],
)
