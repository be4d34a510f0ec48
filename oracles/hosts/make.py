"""A small model of random weights, with biases, for `check.py` to pack in every way. make.py FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 4, "vocab_size": 64, "max_position_embeddings": 64, "attention_bias": True,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip


def main(folder: Path) -> None:
    torch.manual_seed(7)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 or name.endswith(".bias"):
                parameter.normal_(0, 0.05)
    model.save_pretrained(folder / "base")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
