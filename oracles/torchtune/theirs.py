"""Adapters as torchtune's recipes save them, and what its models compute with them. theirs.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import small_llama as small
import torch
from torchtune.modules.peft import get_adapter_params

import models

LINEAR = {
    "lora_attn_modules": ["q_proj", "k_proj", "v_proj", "output_proj"],
    "apply_lora_to_mlp": True,
    "apply_lora_to_output": True,
}
#: Case to the alpha and the arguments of `lora_llama3`.
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "lora, queries and values": (7, {"lora_attn_modules": ["q_proj", "v_proj"]}),
    "lora, keys alone": (2, {"lora_attn_modules": ["k_proj"]}),
    "lora, everything": (5, LINEAR),
    "dora, queries, keys and values": (7, {"lora_attn_modules": ["q_proj", "k_proj", "v_proj"], "use_dora": True}),
    "dora, everything but the head": (4, {**LINEAR, "apply_lora_to_output": False, "use_dora": True}),
}


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    weights = small.write(folder / "base") / "model.safetensors"
    yield {"name": "the base", "adapter": "", "outputs": models.logits(models.of(weights)).tolist()}
    for number, (name, (alpha, lora)) in enumerate(CASES.items()):
        model = models.of(weights, {"lora_rank": 3, "lora_alpha": alpha, "lora_dropout": 0.0, **lora})
        for module in model.modules():
            if hasattr(module, "initialize_dora_magnitude"):
                module.initialize_dora_magnitude()
        trained = get_adapter_params(model)
        small.shaken(trained, number)
        saved = folder / f"tune{number}.pt"
        torch.save({key: value.detach() for key, value in trained.items()}, saved)
        yield {"name": name, "adapter": saved.name, "alpha": alpha, "outputs": models.logits(model).tolist()}


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), "theirs.json", base="base", limit=1e-4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
