"""Adapters as LitGPT's own finetuning saves them, and what its models compute with them. theirs.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import lightning
import small_llama as small
import yaml
from litgpt.finetune.lora import save_lora_checkpoint
from litgpt.lora import mark_only_lora_as_trainable

import models

ALL = ["query", "key", "value", "projection", "mlp", "head"]
#: Case to the rank, the alpha, and what has factors.
CASES: dict[str, tuple[int, int, list[str]]] = {
    "queries and values": (3, 9, ["query", "value"]),
    "keys alone": (2, 5, ["key"]),
    "queries, keys and values": (4, 4, ["query", "key", "value"]),
    "the feed-forward": (3, 7, ["mlp"]),
    "everything": (4, 6, ALL),
}


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    weights = small.write(folder / "base") / "model.safetensors"
    yield {"name": "the base", "adapter": "", "outputs": models.logits(models.of(weights)).tolist()}
    for number, (name, (rank, alpha, parts)) in enumerate(CASES.items()):
        said = {"lora_r": rank, "lora_alpha": alpha, "lora_dropout": 0.0,
                **{f"lora_{part}": part in parts for part in ALL}}  # fmt: skip
        model = models.of(weights, **said)
        mark_only_lora_as_trainable(model)
        small.shaken({name: value for name, value in model.named_parameters() if value.requires_grad}, number)
        saved = folder / f"litgpt{number}"
        saved.mkdir()
        fabric = lightning.Fabric(devices=1, accelerator="cpu")
        save_lora_checkpoint(fabric, model, saved / "lit_model.pth.lora")
        (saved / "hyperparameters.yaml").write_text(yaml.safe_dump({"checkpoint_dir": "small", **said}), "utf-8")
        (saved / "model_config.yaml").write_text(yaml.safe_dump(models.CONFIG), "utf-8")
        yield {"name": name, "adapter": saved.name, "outputs": models.logits(model).tolist()}


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), "theirs.json", base="base", limit=1e-4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
