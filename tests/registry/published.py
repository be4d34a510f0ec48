"""A PEFT adapter as people publish it."""

from __future__ import annotations

import json
from pathlib import Path

from registry.servers.safetensors import packed

CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "acme/base",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj"],
    "bias": "none",
}
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
WEIGHTS = packed({f"{LAYER}.lora_A.weight": (2, 8), f"{LAYER}.lora_B.weight": (8, 2)})
PEFT = {
    "adapter_config.json": json.dumps(CONFIG).encode(),
    "adapter_model.safetensors": WEIGHTS,
    "README.md": b"---\nlicense: mit\n---\n# A style\n",
}


def written(folder: Path) -> Path:
    """Its files in a new folder."""
    folder.mkdir()
    for name, data in PEFT.items():
        (folder / name).write_bytes(data)
    return folder
