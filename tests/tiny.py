"""Tiny random models, one a kind of architecture, and what to feed them. Built once, handed out as copies."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
import transformers as t
from torch import nn

WIDTH, FF, HEADS, VOCAB = 32, 48, 4, 64
COMMON = {
    "hidden_size": WIDTH,
    "intermediate_size": FF,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "vocab_size": VOCAB,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**COMMON, "num_key_value_heads": 2}
SHALLOW = {"num_hidden_layers": 1}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
STACKS = {
    "vocab_size": VOCAB,
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": FF,
    "decoder_ffn_dim": FF,
    "decoder_start_token_id": 1,
    **SPECIAL,
}
T5 = {"vocab_size": VOCAB, "d_model": WIDTH, "d_kv": 8, "d_ff": FF, "num_layers": 2, "num_heads": HEADS}
ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
TOWER = {"num_hidden_layers": 2, "hidden_act": "gelu"}

MAKERS: dict[str, Any] = {
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**GROUPED)),
    "shallow-llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**GROUPED | SHALLOW)),
    "shallow-llama-biased": lambda: t.LlamaForCausalLM(t.LlamaConfig(**GROUPED | SHALLOW, attention_bias=True)),
    "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**GROUPED)),
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**GROUPED)),
    "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**GROUPED, head_dim=8)),
    "gemma3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**GROUPED, head_dim=8)),
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**GROUPED, head_dim=8)),
    "phi": lambda: t.PhiForCausalLM(t.PhiConfig(**COMMON)),
    "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**GROUPED)),
    "falcon": lambda: t.FalconForCausalLM(
        t.FalconConfig(**{k: v for k, v in COMMON.items() if k != "intermediate_size"}, ffn_hidden_size=FF)
    ),
    "gpt2": lambda: t.GPT2LMHeadModel(
        t.GPT2Config(vocab_size=VOCAB, n_embd=WIDTH, n_layer=2, n_head=HEADS, n_positions=64, **SPECIAL)
    ),
    "neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**COMMON)),
    "bloom": lambda: t.BloomForCausalLM(
        t.BloomConfig(vocab_size=VOCAB, hidden_size=WIDTH, n_layer=2, n_head=HEADS, **SPECIAL)
    ),
    "opt": lambda: t.OPTForCausalLM(
        t.OPTConfig(
            vocab_size=VOCAB,
            hidden_size=WIDTH,
            ffn_dim=FF,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            max_position_embeddings=64,
            word_embed_proj_dim=WIDTH,
            **SPECIAL,
        )
    ),
    "bert": lambda: t.BertForSequenceClassification(t.BertConfig(**COMMON)),
    "shallow-bert": lambda: t.BertForSequenceClassification(t.BertConfig(**COMMON | SHALLOW)),
    "roberta": lambda: t.RobertaForSequenceClassification(t.RobertaConfig(**{**COMMON, "pad_token_id": 1})),
    "modernbert": lambda: t.ModernBertForSequenceClassification(
        t.ModernBertConfig(**COMMON, global_attn_every_n_layers=2, local_attention=8, cls_token_id=1, sep_token_id=2)
    ),
    "deberta": lambda: t.DebertaForSequenceClassification(t.DebertaConfig(**COMMON, **DISENTANGLED)),
    "deberta-v2": lambda: t.DebertaV2ForSequenceClassification(
        t.DebertaV2Config(**COMMON, **DISENTANGLED, share_att_key=True)
    ),
    "distilbert": lambda: t.DistilBertForSequenceClassification(
        t.DistilBertConfig(
            vocab_size=VOCAB, dim=WIDTH, hidden_dim=FF, n_layers=2, n_heads=HEADS, max_position_embeddings=64
        )
    ),
    "albert": lambda: t.AlbertForSequenceClassification(t.AlbertConfig(**COMMON, embedding_size=16)),
    "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(**T5, decoder_start_token_id=0)),
    "shallow-t5": lambda: t.T5ForConditionalGeneration(t.T5Config(**{**T5, "num_layers": 1}, decoder_start_token_id=0)),
    "t5-gated": lambda: t.T5ForConditionalGeneration(
        t.T5Config(**T5, decoder_start_token_id=0, feed_forward_proj="gated-gelu")
    ),
    "bart": lambda: t.BartForConditionalGeneration(t.BartConfig(**STACKS, max_position_embeddings=64)),
    "vit": lambda: t.ViTForImageClassification(
        t.ViTConfig(
            hidden_size=WIDTH,
            intermediate_size=FF,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            image_size=16,
            patch_size=8,
        )
    ),
    "resnet": lambda: t.ResNetForImageClassification(
        t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", num_labels=3)
    ),
    "whisper": lambda: t.WhisperForConditionalGeneration(
        t.WhisperConfig(**STACKS, num_mel_bins=8, max_source_positions=16, max_target_positions=16)
    ),
    "clip": lambda: t.CLIPModel(
        t.CLIPConfig(
            text_config={
                "vocab_size": VOCAB,
                "hidden_size": WIDTH,
                "intermediate_size": FF,
                "num_attention_heads": HEADS,
                "max_position_embeddings": 16,
                **SPECIAL,
                **TOWER,
            },
            vision_config={
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_attention_heads": 2,
                "image_size": 16,
                "patch_size": 8,
                **TOWER,
            },
        )
    ),
    "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**GROUPED, num_local_experts=4)),
    "qwen2-moe": lambda: t.Qwen2MoeForCausalLM(
        t.Qwen2MoeConfig(**GROUPED, **ROUTED, shared_expert_intermediate_size=24)
    ),
    "qwen3-moe": lambda: t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(**GROUPED, **ROUTED, head_dim=8, mlp_only_layers=[1])),
    "gpt-oss": lambda: t.GptOssForCausalLM(
        t.GptOssConfig(**GROUPED, num_local_experts=4, head_dim=8, layer_types=["full_attention", "sliding_attention"])
    ),
}


@functools.cache
def _built(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MAKERS[name]().eval()


def model(name: str) -> Any:
    """A fresh copy of the tiny model called `name`, the same values each time."""
    return copy.deepcopy(_built(name))


@functools.cache
def _biased(name: str) -> nn.Module:
    made, generator = model(name), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if key.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def biased(name: str) -> Any:
    """`model` with biases that are no zeros, which transformers makes: what is lost of them is seen."""
    return copy.deepcopy(_biased(name))


def shell(name: str) -> Any:
    """The same structure on the meta device."""
    with torch.device("meta"):
        return MAKERS[name]()


def inputs(name: str, batch: int = 2, length: int = 7) -> dict[str, torch.Tensor]:
    """What the forward of that model wants."""
    generator = torch.Generator().manual_seed(1)
    if name in {"vit", "resnet"}:
        return {"pixel_values": torch.randn(batch, 3, 16, 16, generator=generator)}
    if name == "whisper":
        decoder = torch.randint(3, VOCAB, (batch, 5), generator=generator)
        return {"input_features": torch.randn(batch, 8, 32, generator=generator), "decoder_input_ids": decoder}
    ids = {"input_ids": torch.randint(3, VOCAB, (batch, length), generator=generator)}
    if name in {"t5", "shallow-t5", "t5-gated", "bart"}:
        ids["decoder_input_ids"] = torch.randint(3, VOCAB, (batch, 5), generator=generator)
    if name == "clip":
        ids["pixel_values"] = torch.randn(batch, 3, 16, 16, generator=generator)
    return ids


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    """A module with drawn parameters, biases included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.eval()
