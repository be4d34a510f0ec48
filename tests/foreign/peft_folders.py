"""A small folder as PEFT writes it, and what is changed in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Q = "base_model.model.layers.0.q_proj"
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "fan_in_fan_out": False}
Tensors = dict[str, torch.Tensor]


def tensors() -> Tensors:
    return {f"{Q}.lora_A.weight": torch.ones(4, 6), f"{Q}.lora_B.weight": torch.ones(10, 4)}


def folder(path: Path, config: Any = CONFIG, weights: Tensors | None = None) -> Path:
    path.mkdir(exist_ok=True)
    save_file(tensors() if weights is None else weights, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def renamed(change: Callable[[str], str]) -> Tensors:
    return {change(key): tensor for key, tensor in tensors().items()}
