"""GGUF files as llama.cpp's own library writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

LAYER = "blk.0.ffn_up.weight"


def written(
    path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, Any] | None = None, arch: str = "qwen2"
) -> Path:
    """A LoRA's file. `said`: values beside, texts, numbers of 32 bits and lists of them; None takes one away."""
    writer = gguf.GGUFWriter(path, arch)
    values = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 4.0, **(said or {})}
    for name, value in values.items():
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif value is not None:
            writer.add_array(name, value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def quantised(path: Path, tensors: Mapping[str, Tensor], kind: str) -> Path:
    """A LoRA's file with tensors in blocks."""
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    for name, tensor in tensors.items():
        code = gguf.GGMLQuantizationType[kind]
        raw = gguf.quants.quantize(tensor.numpy().astype(np.float32), code)
        writer.add_tensor(name, raw, raw_dtype=code)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def pair(name: str = LAYER, out: int = 6, into: int = 8, r: int = 2) -> dict[str, Tensor]:
    """Both factors of a layer."""
    made = torch.Generator().manual_seed(len(name))
    shapes = {"a": (r, into), "b": (out, r)}
    return {f"{name}.lora_{side}": torch.randn(shape, generator=made) for side, shape in shapes.items()}
