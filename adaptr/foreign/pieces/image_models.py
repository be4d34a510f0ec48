"""Modules of image models by names in which `_` stands for `.`: the words of each family, longest first.

A name is cut into the parts of a path, each of which is a word of its family or a number; where none of the ways to
cut it is made of such words, it is not known. Sources: diffusers' and transformers' module names, LDM's U-Net (SDXL),
BFL's Flux, Stability's MMDiT, Wan, NVIDIA's Cosmos (Anima), Krea 2.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A kind of network. `component`: its name in pipelines; `roots`: first parts of its paths; `parts`: the others."""

    name: str
    component: str
    roots: frozenset[str]
    parts: frozenset[str]


def _family(name: str, component: str, roots: str, parts: str) -> Family:
    return Family(name, component, frozenset(roots.split()), frozenset(parts.split()))


_ATTENTION = "to_q to_k to_v to_out transformer_blocks attn1 attn2 ff net proj norm norm1 norm2 norm3 proj_in proj_out"
DIFFUSERS = _family(
    "diffusers' transformers (Flux, SD3, Qwen-Image)",
    "transformer",
    "transformer_blocks single_transformer_blocks x_embedder context_embedder time_text_embed norm_out proj_out "
    "pos_embed img_in txt_in txt_norm",
    "attn attn2 to_q to_k to_v to_out add_q_proj add_k_proj add_v_proj to_add_out norm_q norm_k norm_added_q "
    "norm_added_k ff ff_context img_mlp txt_mlp img_mod txt_mod net proj norm norm1 norm2 norm1_context "
    "norm2_context linear linear_1 linear_2 proj_mlp proj_out timestep_embedder text_embedder guidance_embedder",
)
FAMILIES = (
    _family(
        "diffusers' U-Net",
        "unet",
        "conv_in conv_out conv_norm_out time_embedding add_embedding class_embedding encoder_hid_proj "
        "down_blocks mid_block up_blocks",
        f"{_ATTENTION} attentions resnets downsamplers upsamplers conv conv1 conv2 conv_shortcut time_emb_proj "
        "linear_1 linear_2 cond_proj group_norm image_projection",
    ),
    _family(
        "LDM's U-Net",
        "unet",
        "input_blocks middle_block output_blocks time_embed label_emb out",
        f"{_ATTENTION} in_layers emb_layers out_layers skip_connection op conv",
    ),
    _family(
        "Flux as BFL has it",
        "transformer",
        "double_blocks single_blocks img_in txt_in time_in vector_in guidance_in final_layer",
        "img_attn txt_attn img_mlp txt_mlp img_mod txt_mod lin qkv proj norm query_norm key_norm linear1 linear2 "
        "modulation in_layer out_layer linear adaLN_modulation",
    ),
    DIFFUSERS,
    _family(
        "Stability's MMDiT (SD3)",
        "transformer",
        "joint_blocks context_embedder x_embedder t_embedder y_embedder final_layer",
        "x_block context_block attn attn2 qkv proj ln_q ln_k mlp fc1 fc2 adaLN_modulation linear",
    ),
    _family(
        "Wan, Cosmos and Krea 2",
        "transformer",
        "blocks patch_embedding text_embedding time_embedding time_projection head img_emb "
        "first last tmlp tproj txtfusion txtmlp",
        "self_attn cross_attn attn q k v o k_img v_img norm_q norm_k norm_k_img norm3 ffn modulation head proj "
        "q_proj k_proj v_proj output_proj q_norm k_norm mlp layer1 layer2 adaln_modulation_self_attn "
        "adaln_modulation_cross_attn adaln_modulation_mlp wq wk wv wo gate up down linear "
        "layerwise_blocks refiner_blocks projector",
    ),
)
TEXT = _family(
    "text encoders (CLIP, T5, Qwen)",
    "text_encoder",
    "text_model encoder embeddings text_projection final_layer_norm shared model layers embed_tokens",
    "encoder layers embeddings token_embedding position_embedding final_layer_norm self_attn q_proj k_proj v_proj "
    "out_proj o_proj mlp fc1 fc2 layer_norm1 layer_norm2 gate_proj up_proj down_proj q_norm k_norm input_layernorm "
    "post_attention_layernorm language_model embed_tokens norm block layer SelfAttention layer_norm q k v o "
    "DenseReluDense wi wi_0 wi_1 wo relative_attention_bias final_layer",
)


def path_of(flat: str, family: Family) -> str:
    """The path that `flat` stands for in a family of models, "" where its words are others."""
    words = tuple(flat.split("_"))
    if len(words) > 64:
        return ""
    return ".".join(_cut(words, family, 0))


@functools.lru_cache(maxsize=65536)
def _cut(words: tuple[str, ...], family: Family, at: int) -> tuple[str, ...]:
    """The parts from word `at` on, longest first; () where there is no way to cut them."""
    known = family.parts if at else family.roots
    for end in range(min(len(words), at + 6), at, -1):
        part = "_".join(words[at:end])
        if part not in known and not (at and _is_number(part)):
            continue
        if end == len(words):
            return (part,)
        rest = _cut(words, family, end)
        if rest:
            return (part, *rest)
    return ()


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdecimal() and len(part) <= 6


def nearest(flat: str, families: Iterable[Family]) -> str:
    """How much of a name is made of a family's words, from its beginning: the most that any has."""
    words = flat.split("_")[:64]
    starts = ("_".join(words[:count]) for count in range(len(words), 0, -1))
    return next((start for start in starts if any(path_of(start, family) for family in families)), "")
