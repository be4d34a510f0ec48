"""torchtune's model of the small Llama, with factors or without, from weights in transformers' names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import small_llama as small
import torch
from safetensors.torch import load_file
from torchtune.models.convert_weights import hf_to_tune
from torchtune.models.llama3 import llama3, lora_llama3

SIZES: dict[str, Any] = {
    "vocab_size": small.VOCABULARY, "num_layers": small.LAYERS, "num_heads": small.HEADS, "num_kv_heads": small.GROUPS,
    "embed_dim": small.WIDTH, "max_seq_len": small.LENGTH, "intermediate_dim": small.INNER, "norm_eps": 1e-5,
    "rope_base": 10000,
}  # fmt: skip


def of(weights: Path, lora: dict[str, Any] | None = None) -> torch.nn.Module:
    """lora: the arguments of `lora_llama3`; without them the model has no factors."""
    model = llama3(**SIZES) if lora is None else lora_llama3(**SIZES, **lora)
    heads = {"num_heads": small.HEADS, "num_kv_heads": small.GROUPS, "dim": small.WIDTH, "head_dim": small.HEAD}
    model.load_state_dict(hf_to_tune(load_file(weights), **heads), strict=lora is None)
    return model


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.tensor(small.IDS))[0]
