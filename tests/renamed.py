"""Tiny models whose checkpoints have other names than they have in memory, and what to feed them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import transformers as t
from torch import Tensor, nn

TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
IMAGE = {**TOWER, "image_size": 16, "patch_size": 8}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
QWEN = {
    "text_config": {**TEXT, "rope_parameters": MROPE, "tie_word_embeddings": False},
    "image_token_id": 60,
    "video_token_id": 61,
    "vision_start_token_id": 62,
    "vision_end_token_id": 63,
}
MOE = {**TEXT, "num_experts_per_tok": 2}
NO_IMAGE = 63


def _llama() -> dict[str, Any]:
    return t.LlamaConfig(**TEXT).to_dict()


def _clip() -> dict[str, Any]:
    return t.CLIPVisionConfig(**IMAGE, projection_dim=16).to_dict()


def _siglip() -> dict[str, Any]:
    return t.SiglipVisionConfig(**IMAGE).to_dict()


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "llava": lambda: t.LlavaForConditionalGeneration(
        t.LlavaConfig(vision_config=_clip(), text_config=_llama(), image_token_index=NO_IMAGE)
    ),
    "llava_next": lambda: t.LlavaNextForConditionalGeneration(
        t.LlavaNextConfig(vision_config=_clip(), text_config=_llama(), image_token_index=NO_IMAGE)
    ),
    "vipllava": lambda: t.VipLlavaForConditionalGeneration(
        t.VipLlavaConfig(vision_config=_clip(), text_config=_llama(), image_token_index=NO_IMAGE)
    ),
    "llava_onevision": lambda: t.LlavaOnevisionForConditionalGeneration(
        t.LlavaOnevisionConfig(
            vision_config=_siglip(), text_config=t.Qwen2Config(**TEXT).to_dict(), image_token_index=NO_IMAGE,
            video_token_index=62,
        )
    ),
    "video_llava": lambda: t.VideoLlavaForConditionalGeneration(
        t.VideoLlavaConfig(
            vision_config=_clip(), text_config=_llama(), image_token_index=NO_IMAGE, video_token_index=62
        )
    ),
    "mistral3": lambda: t.Mistral3ForConditionalGeneration(
        t.Mistral3Config(
            vision_config=t.PixtralVisionConfig(**IMAGE).to_dict(),
            text_config=t.MistralConfig(**TEXT).to_dict(),
            image_token_index=NO_IMAGE,
        )
    ),
    "aya_vision": lambda: t.AyaVisionForConditionalGeneration(
        t.AyaVisionConfig(
            vision_config=_siglip(), text_config=t.Cohere2Config(**TEXT).to_dict(), image_token_index=NO_IMAGE
        )
    ),
    "internvl": lambda: t.InternVLForConditionalGeneration(
        t.InternVLConfig(
            vision_config=t.InternVLVisionConfig(**{**IMAGE, "image_size": [16, 16], "patch_size": [8, 8]}).to_dict(),
            text_config=t.Qwen2Config(**TEXT).to_dict(),
            image_token_id=NO_IMAGE,
        )
    ),
    "paligemma": lambda: t.PaliGemmaForConditionalGeneration(
        t.PaliGemmaConfig(
            vision_config=t.SiglipVisionConfig(**IMAGE, vision_use_head=False).to_dict(),
            text_config=t.GemmaConfig(**TEXT, head_dim=8).to_dict(),
            image_token_index=NO_IMAGE,
            projection_dim=32,
            hidden_size=32,
        )
    ),
    "gemma3": lambda: t.Gemma3ForConditionalGeneration(
        t.Gemma3Config(
            text_config={**TEXT, "head_dim": 8, "query_pre_attn_scalar": 8},
            vision_config=_siglip(),
            mm_tokens_per_image=4,
            image_token_index=NO_IMAGE,
            boi_token_index=61,
            eoi_token_index=62,
        )
    ),
    "qwen2_vl": lambda: t.Qwen2VLForConditionalGeneration(
        t.Qwen2VLConfig(
            **QWEN, vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 4}
        )
    ),
    "qwen2_5_vl": lambda: t.Qwen2_5_VLForConditionalGeneration(
        t.Qwen2_5_VLConfig(
            **QWEN,
            vision_config={
                "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32,
                "patch_size": 4, "fullatt_block_indexes": [0],
            },
        )
    ),
    "qwen3_vl": lambda: t.Qwen3VLForConditionalGeneration(
        t.Qwen3VLConfig(
            text_config={**TEXT, "head_dim": 8, "rope_parameters": MROPE},
            vision_config={
                "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32,
                "patch_size": 4, "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
            },
            image_token_id=60, video_token_id=61, vision_start_token_id=62, vision_end_token_id=63,
        )
    ),
    "mllama": lambda: t.MllamaForConditionalGeneration(
        t.MllamaConfig(
            vision_config={
                "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_global_layers": 1,
                "attention_heads": 4, "image_size": 16, "patch_size": 8, "vision_output_dim": 64,
                "intermediate_layers_indices": [0], "max_num_tiles": 1, "supported_aspect_ratios": [[1, 1]],
            },
            text_config={**TEXT, "num_hidden_layers": 3, "cross_attention_layers": [1]},
            image_token_index=NO_IMAGE,
        )
    ),
    "idefics3": lambda: t.Idefics3ForConditionalGeneration(
        t.Idefics3Config(vision_config=dict(IMAGE), text_config=_llama(), image_token_id=NO_IMAGE, scale_factor=2)
    ),
    "smolvlm": lambda: t.SmolVLMForConditionalGeneration(
        t.SmolVLMConfig(vision_config=dict(IMAGE), text_config=_llama(), image_token_id=NO_IMAGE, scale_factor=2)
    ),
    "clip": lambda: t.CLIPModel(
        t.CLIPConfig(
            text_config={**TOWER, "vocab_size": 64, "projection_dim": 16, "max_position_embeddings": 32},
            vision_config={**IMAGE, "projection_dim": 16},
            projection_dim=16,
        )
    ),
    "siglip": lambda: t.SiglipModel(
        t.SiglipConfig(
            text_config={**TOWER, "vocab_size": 64, "max_position_embeddings": 32, "projection_size": 32},
            vision_config=dict(IMAGE),
        )
    ),
    "vit": lambda: t.ViTForImageClassification(t.ViTConfig(**IMAGE)),
    "deit": lambda: t.DeiTForImageClassification(t.DeiTConfig(**IMAGE)),
    "beit": lambda: t.BeitForImageClassification(t.BeitConfig(**IMAGE, use_relative_position_bias=True)),
    "dinov2": lambda: t.Dinov2ForImageClassification(t.Dinov2Config(**IMAGE)),
    "vit_msn": lambda: t.ViTMSNForImageClassification(t.ViTMSNConfig(**IMAGE)),
    "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**MOE, num_local_experts=4)),
    "qwen2_moe": lambda: t.Qwen2MoeForCausalLM(
        t.Qwen2MoeConfig(**MOE, num_experts=4, moe_intermediate_size=16, shared_expert_intermediate_size=16)
    ),
    "qwen3_moe": lambda: t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(**MOE, num_experts=4, moe_intermediate_size=16)),
    "olmoe": lambda: t.OlmoeForCausalLM(t.OlmoeConfig(**MOE, num_experts=4)),
    "gpt_neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**{k: v for k, v in TEXT.items() if "value" not in k})),
    "jamba": lambda: t.JambaForCausalLM(
        t.JambaConfig(
            **MOE, num_experts=4, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
            expert_layer_offset=1, mamba_d_state=4, mamba_dt_rank=4, use_mamba_kernels=False,
        )
    ),
    "qwen3_vl_moe": lambda: t.Qwen3VLMoeForConditionalGeneration(
        t.Qwen3VLMoeConfig(
            text_config={
                **MOE, "head_dim": 8, "rope_parameters": MROPE, "num_experts": 4, "moe_intermediate_size": 32
            },
            vision_config={
                "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32,
                "patch_size": 4, "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
            },
            image_token_id=60, video_token_id=61, vision_start_token_id=62, vision_end_token_id=63,
        )
    ),
    "gte": lambda: t.GteForMaskedLM(t.GteConfig(**{k: v for k, v in TEXT.items() if "value" not in k})),
    "hrm_text": lambda: t.HrmTextForCausalLM(t.HrmTextConfig(**TEXT)),
}  # fmt: skip
LANGUAGE = (
    "llava",
    "llava_next",
    "mistral3",
    "gemma3",
    "qwen2_vl",
    "qwen2_5_vl",
    "internvl",
    "paligemma",
    "aya_vision",
)


@functools.cache
def _made(kind: str) -> nn.Module:
    torch.manual_seed(0)
    made = MAKERS[kind]().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.05 * torch.randn(parameter.shape))
    return made


def model(kind: str) -> nn.Module:
    """A fresh copy, always with the same weights."""
    return copy.deepcopy(_made(kind))


def said(model: nn.Module) -> Tensor:
    """What a model makes of a sentence, an image, or both."""
    generator = torch.Generator().manual_seed(1)
    inputs: dict[str, Any] = {}
    if hasattr(model, "get_input_embeddings") and not _sees_only(model):
        inputs["input_ids"] = torch.arange(3, 23)[None]
    if _sees_only(model) or type(model).__name__.removeprefix("Adapted") in {"CLIPModel", "SiglipModel"}:
        inputs["pixel_values"] = torch.randn(1, 3, 16, 16, generator=generator)
    with torch.no_grad():
        out = model(**inputs)
    if "text_embeds" in out:
        return torch.cat([out.text_embeds, out.image_embeds])
    found: Tensor = out.logits
    return found


def _sees_only(model: Any) -> bool:
    return type(model).__name__.removeprefix("Adapted").endswith("ForImageClassification")
