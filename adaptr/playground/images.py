"""Bases of image models with the layers that LoRAs go to, one a block and small, and LoRAs under kohya's names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

WIDTH, RANK = 16, 4
QUERY = "transformer_blocks.0.attn1.to_q"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"
#: Stable Diffusion 1: each block's name in published files and in diffusers.
SD15 = {
    **{f"input_blocks.{n}.1": f"down_blocks.{n // 3}.attentions.{n % 3 - 1}" for n in (1, 2, 4, 5, 7, 8)},
    "middle_block.1": "mid_block.attentions.0",
    **{f"output_blocks.{n}.1": f"up_blocks.{n // 3}.attentions.{n % 3}" for n in range(3, 12)},
}
SDXL = [*(f"input_blocks.{n}.1" for n in (4, 5, 7, 8)), "middle_block.1", *(f"output_blocks.{n}.1" for n in range(6))]


def make(folder: Path) -> list[Path]:
    """`sd15.safetensors`, the folder `sd15`, `sdxl.safetensors`, and LoRAs of each."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = f"cond_stage_model.transformer.{TEXT}"
        published = _weights([*(f"model.diffusion_model.{one}.{QUERY}" for one in SD15), text])
        names = [*(f"unet.{one}.{QUERY}.weight" for one in SD15.values()), f"text_encoder.{TEXT}.weight"]
        xl = [*(f"model.diffusion_model.{one}.{QUERY}" for one in SDXL), f"conditioner.embedders.0.transformer.{TEXT}"]
        unets = [f"unet_{one}_{QUERY}" for one in SD15.values()]
        return [
            _written(folder / "sd15.safetensors", published),
            _pipeline(folder / "sd15", dict(zip(names, published.values(), strict=True))),
            _written(folder / "sdxl.safetensors", _weights(xl)),
            *(_lora(folder / f"{name}.safetensors", [*unets, f"te_{TEXT}"]) for name in ("style", "pose")),
            _lora(folder / "sdxl-style.safetensors", [*(f"unet_{one}_{QUERY}" for one in SDXL), f"te1_{TEXT}"]),
        ]


def _weights(names: Iterable[str]) -> dict[str, Tensor]:
    import torch

    return {f"{name}.weight": torch.randn(WIDTH, WIDTH) / WIDTH**0.5 for name in names}


def _lora(path: Path, names: Iterable[str]) -> Path:
    import torch

    tensors = {}
    for name in names:
        stem = "lora_" + name.replace(".", "_")
        tensors[f"{stem}.lora_down.weight"] = torch.randn(RANK, WIDTH)
        tensors[f"{stem}.lora_up.weight"] = torch.randn(WIDTH, RANK) / 100
        tensors[f"{stem}.alpha"] = torch.tensor(float(RANK))
    return _written(path, tensors, {"ss_network_module": "networks.lora"})


def _written(path: Path, tensors: dict[str, Tensor], said: dict[str, str] | None = None) -> Path:
    from safetensors.torch import save_file

    save_file(tensors, path, said or {"format": "pt"})
    return path


def _pipeline(folder: Path, tensors: dict[str, Tensor]) -> Path:
    """As diffusers saves one: a folder a component."""
    for component, file in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        (folder / component).mkdir(parents=True, exist_ok=True)
        own = {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(component + ".")}
        _written(folder / component / f"{file}.safetensors", own)
        (folder / component / "config.json").write_text("{}", encoding="utf-8")
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    index["text_encoder"] = ["transformers", "CLIPTextModel"]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder
