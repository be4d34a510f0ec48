"""Tiny models whose head is their table, beyond those of `tiny`, and what to feed them."""

from __future__ import annotations

from typing import Any

import torch
import transformers as t

import tiny

V, D = tiny.VOCAB, tiny.WIDTH


def llama() -> Any:
    return t.LlamaForCausalLM(t.LlamaConfig(**tiny.GROUPED, tie_word_embeddings=True))


def bert() -> Any:
    return t.BertForMaskedLM(t.BertConfig(**tiny.COMMON))


def gemma3() -> Any:
    text = {**tiny.GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8}
    vision = {"hidden_size": D, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = t.Gemma3Config(
        text_config=text,
        vision_config={"model_type": "siglip_vision_model", **vision, "image_size": 16, "patch_size": 8},
        mm_tokens_per_image=4,
    )
    return t.Gemma3ForConditionalGeneration(config)


def llava() -> Any:
    vision = {"hidden_size": D, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = t.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **vision, "image_size": 16, "patch_size": 8},
        text_config={"model_type": "llama", **tiny.GROUPED, "tie_word_embeddings": True},
    )
    return t.LlavaForConditionalGeneration(config)


def inputs(kind: str) -> dict[str, torch.Tensor]:
    if kind != "whisper":
        return tiny.inputs(kind)
    return {"input_features": torch.ones(1, 8, 32), "decoder_input_ids": torch.arange(4, 10).unsqueeze(0)}
