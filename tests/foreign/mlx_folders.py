"""Small folders as MLX-LM writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

CASES = ("lora", "lora_keys_last", "lora_head", "dora", "full")
Q = "model.layers.{}.self_attn.q_proj"
PARAMETERS = {"rank": 2, "scale": 2.5, "dropout": 0.0, "keys": ["self_attn.q_proj"]}
CONFIG = {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": PARAMETERS}


def factors(path: str, r: int = 2, into: int = 6, out: int = 4) -> dict[str, Tensor]:
    return {f"{path}.lora_a": torch.randn(into, r), f"{path}.lora_b": torch.randn(r, out)}


def folder(place: Path, tensors: Mapping[str, Tensor], **config: Any) -> Path:
    """A folder as MLX-LM writes it; `config` changes the fields of `CONFIG`, None takes one out."""
    place.mkdir(exist_ok=True)
    said = {name: value for name, value in {**CONFIG, **config}.items() if value is not None}
    (place / "adapter_config.json").write_text(json.dumps(said))
    save_file({name: value.contiguous() for name, value in tensors.items()}, place / "adapters.safetensors")
    return place


def parameters(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in {**PARAMETERS, **fields}.items() if value is not None}
