"""The first block of each architecture that methods at blocks are tried on, and what its model is given."""

from __future__ import annotations

from typing import Any

import torch

import tiny

BLOCKS = {
    "llama": "model.layers.0",
    "gpt2": "transformer.h.0",
    "bert": "bert.encoder.layer.0",
    "distilbert": "distilbert.transformer.layer.0",
    "t5": "encoder.block.0",
    "vit": "vit.layers.0",
    "whisper": "model.encoder.layers.0",
}


def inputs(name: str) -> dict[str, Any]:
    if name != "whisper":
        return dict(tiny.inputs(name))
    features = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(1))
    return {"input_features": features, "decoder_input_ids": torch.arange(3, 9).repeat(2, 1)}
