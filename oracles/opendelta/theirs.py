"""Deltas as OpenDelta saves them, and what its models compute with them. theirs.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import opendelta
import small_llama as small
import torch
from transformers import AutoModelForCausalLM

#: Case to class, and what it is given.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LoraModel", {"lora_r": 3, "lora_alpha": 7, "modified_modules": ["q_proj", "down_proj"]}),
    "adapter": ("AdapterModel", {"bottleneck_dim": 5, "modified_modules": ["o_proj", "down_proj"]}),
    "adapter with relu": (
        "AdapterModel",
        {"bottleneck_dim": 4, "non_linearity": "relu", "modified_modules": ["self_attn"]},
    ),
    "low-rank adapter": ("LowRankAdapterModel", {"reduction_factor": 8, "modified_modules": ["mlp"]}),
    "soft prompt": ("SoftPromptModel", {"soft_token_num": 4, "token_init": False}),
}


def shaken(model: Any, seed: int) -> None:
    """What is trained with noise for values."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, value in sorted((name, value) for name, value in model.named_parameters() if value.requires_grad):
            value.copy_(0.3 * torch.randn(value.shape, generator=draw))


def logits(model: Any) -> list[Any]:
    """Of the text alone, where tokens of a prompt are before it."""
    with torch.no_grad():
        found: list[Any] = model(input_ids=torch.tensor(small.IDS)).logits[0, -len(small.IDS[0]) :].tolist()
    return found


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    small.write(folder / "base")
    for number, (name, (kind, given)) in enumerate([("the base", ("", {})), *CASES.items()]):
        model = AutoModelForCausalLM.from_pretrained(folder / "base", torch_dtype=torch.float32).eval()
        if not kind:
            yield {"name": name, "adapter": "", "outputs": logits(model)}
            continue
        delta = getattr(opendelta, kind)(backbone_model=model, **given)
        delta.freeze_module(exclude=["deltas"], set_state_dict=True)
        shaken(model, number)
        delta.save_finetuned(str(folder / f"delta{number}"))
        yield {"name": name, "adapter": f"delta{number}", "outputs": logits(model)}


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), "theirs.json", base="base", limit=1e-4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
