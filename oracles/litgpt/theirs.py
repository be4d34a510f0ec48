"""Adapters as LitGPT's own finetuning saves them, and what its models compute with them. theirs.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import lightning
import litgpt.adapter
import litgpt.adapter_v2
import small_llama as small
import torch
import yaml
from litgpt.finetune.adapter import save_adapter_checkpoint
from litgpt.finetune.adapter_v2 import save_adapter_v2_checkpoint
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


#: LLaMA-Adapters: case to the version, and the first layer that has prompts.
PROMPTS = {"llama-adapter": (1, 0), "llama-adapter of the last layer": (1, 1), "llama-adapter v2": (2, 1)}


def prompts_in(folder: Path) -> Iterator[dict[str, Any]]:
    weights = small.write(folder / "one-group", 1) / "model.safetensors"
    plain = models.logits(models.adapted(weights, 1, adapter_start_layer=small.LAYERS))
    yield {"name": "the base of one group", "adapter": "", "outputs": plain.tolist(), "version": 1}
    for number, (name, (version, first)) in enumerate(PROMPTS.items()):
        said = {"adapter_prompt_length": 3, "adapter_start_layer": first}
        model = models.adapted(weights, version, **said)
        own = litgpt.adapter.adapter_filter if version == 1 else litgpt.adapter_v2.adapter_filter
        draw = torch.Generator().manual_seed(number)
        for path, value in sorted(model.named_parameters()):
            if own(path, value):
                value.data = value.data + 0.3 * torch.randn(value.shape, generator=draw)
        saved = folder / f"prompts{number}"
        saved.mkdir()
        save = save_adapter_checkpoint if version == 1 else save_adapter_v2_checkpoint
        called = "lit_model.pth.adapter" if version == 1 else "lit_model.pth.adapter_v2"
        save(lightning.Fabric(devices=1, accelerator="cpu"), model, saved / called)
        (saved / "model_config.yaml").write_text(yaml.safe_dump({**models.CONFIG, "n_query_groups": 1}), "utf-8")
        yield {"name": f"theirs: {name}", "adapter": saved.name, "outputs": models.logits(model).tolist(),
               "version": version, "said": said}  # fmt: skip


def main(folder: Path) -> None:
    prompts = ({**case, "base": "one-group"} for case in prompts_in(folder))
    cases.write(folder, [*made_in(folder), *prompts], "theirs.json", base="base", limit=1e-4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
