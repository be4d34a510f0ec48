"""LitGPT's model of the small Llama, with factors or without, from weights in transformers' names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import litgpt.adapter
import litgpt.adapter_v2
import litgpt.lora
import small_llama as small
import torch
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from safetensors.torch import load_file

CONFIG: dict[str, Any] = {
    "name": "small", "block_size": small.LENGTH, "vocab_size": small.VOCABULARY, "padded_vocab_size": small.VOCABULARY,
    "n_layer": small.LAYERS, "n_head": small.HEADS, "head_size": small.HEAD, "n_embd": small.WIDTH,
    "n_query_groups": small.GROUPS, "rotary_percentage": 1.0, "parallel_residual": False, "bias": False,
    "norm_class_name": "RMSNorm", "norm_eps": 1e-5, "mlp_class_name": "LLaMAMLP", "intermediate_size": small.INNER,
    "rope_base": 10000,
}  # fmt: skip


def of(weights: Path, **lora: Any) -> litgpt.lora.GPT:
    """lora: the fields of LitGPT's configuration that begin with `lora_`; with none of them it has no factors."""
    config = litgpt.lora.Config(**CONFIG, **lora)
    found: dict[str, torch.Tensor] = {}
    copy_weights_hf_llama(config, {}, found, load_file(weights))
    model = litgpt.lora.GPT(config)
    model.load_state_dict(found, strict=not lora)
    return model


def adapted(weights: Path, version: int, file: Path | None = None, **said: int) -> torch.nn.Module:
    """LLaMA-Adapter's, of a model with one group of keys. said: the fields of its configuration that are its own."""
    module: Any = litgpt.adapter if version == 1 else litgpt.adapter_v2
    config = module.Config(**{**CONFIG, "n_query_groups": 1}, **said)
    found: dict[str, torch.Tensor] = {}
    copy_weights_hf_llama(config, {}, found, load_file(weights))
    model: torch.nn.Module = module.GPT(config)
    model.load_state_dict(found, strict=False)
    if file is not None:
        own = torch.load(file, weights_only=True)["model"]
        strange = model.load_state_dict(own, strict=False).unexpected_keys
        assert not strange, strange
    return model


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.tensor(small.IDS))[0]
