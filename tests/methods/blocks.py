"""The first block of each architecture that methods at blocks are tried on."""

from __future__ import annotations

BLOCKS = {
    "llama": "model.layers.0",
    "gpt2": "transformer.h.0",
    "bert": "bert.encoder.layer.0",
    "distilbert": "distilbert.transformer.layer.0",
    "t5": "encoder.block.0",
    "vit": "vit.layers.0",
    "whisper": "model.encoder.layers.0",
}
