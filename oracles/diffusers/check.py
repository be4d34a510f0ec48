"""What diffusers fuses of each file against what adaptr merged, weight by weight. check.py FOLDER

Text encoders are left out, whose LoRAs diffusers 0.42 does not load with transformers 5.

A file of one is brought back to diffusers' names by its own converters, but for Flux, whose converter knows the width
of the published model only: there q, k, v and the MLP are cut out of what is joined.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from diffusers import FluxPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import load_file

import models

Tensors = dict[str, torch.Tensor]
LOADERS = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline, "flux": FluxPipeline}


def fused(kind: str, base: Tensors, adapter: Path) -> Tensors:
    """The weights of a pipeline's U-Net or transformer after diffusers fused a LoRA into it."""
    name, make = next(iter(models.PIPELINES[kind].items()))
    model, loader = make().eval(), LOADERS[kind]
    model.load_state_dict(
        {key.removeprefix(f"{name}."): tensor for key, tensor in base.items() if key.startswith(name)}
    )
    more = {"unet_config": model.config} if name == "unet" else {"return_alphas": True}
    file = {"weight_name": adapter.name, "return_lora_metadata": True}
    state, alphas, meta = loader.lora_state_dict(str(adapter.parent), **file, **more)
    load = loader.load_lora_into_transformer if name == "transformer" else loader.load_lora_into_unet
    load(state, alphas, model, adapter_name="a", metadata=meta, _pipeline=None)
    model.fuse_lora()
    found = {
        key.replace(".base_layer", ""): tensor for key, tensor in model.state_dict().items() if ".lora_" not in key
    }
    return {f"{name}.{key}": tensor for key, tensor in found.items()}


def of_pipeline(root: Path) -> Tensors:
    files = [file for file in root.glob("*/*.safetensors") if file.parent.name != "adaptr"]
    return {f"{file.parent.name}.{key}": tensor for file in files for key, tensor in load_file(file).items()}


def of_one(kind: str, file: Path) -> Tensors:
    """The weights under diffusers' names."""
    tensors = load_file(file)
    if kind == "flux":
        return _flux(tensors)
    unet = convert_ldm_unet_checkpoint(dict(tensors), dict(models.PIPELINES[kind]["unet"]().config))
    return {f"unet.{key}": tensor for key, tensor in unet.items()}


def _flux(tensors: Tensors) -> Tensors:
    found: Tensors = {}
    for key, tensor in tensors.items():
        parts = key.split(".")
        if key.endswith(("img_attn.qkv.weight", "txt_attn.qkv.weight")):
            names = ("to_q", "to_k", "to_v") if "img" in key else ("add_q_proj", "add_k_proj", "add_v_proj")
            for name, part in zip(names, tensor.chunk(3), strict=True):
                found[f"transformer.transformer_blocks.{parts[1]}.attn.{name}.weight"] = part
        elif key.endswith("linear1.weight"):
            wide = tensor.shape[1]
            names = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
            for name, part in zip(names, tensor.split([wide, wide, wide, tensor.shape[0] - 3 * wide]), strict=True):
                found[f"transformer.single_transformer_blocks.{parts[1]}.{name}.weight"] = part
        elif key.endswith("attn.proj.weight"):
            name = "to_out.0" if "img" in key else "to_add_out"
            found[f"transformer.transformer_blocks.{parts[1]}.attn.{name}.weight"] = tensor
        elif key.endswith("linear2.weight"):
            found[f"transformer.single_transformer_blocks.{parts[1]}.proj_out.weight"] = tensor
        elif key == "final_layer.linear.weight":
            found["transformer.proj_out.weight"] = tensor
    return found


def main(folder: Path) -> None:
    results = {}
    for case in json.loads((folder / "cases.json").read_text()):
        kind = case["kind"]
        base = load_file(folder / f"{kind}-base.safetensors")
        adapter = folder / case["adapter"]
        wanted = fused(kind, base, adapter)
        merged = folder / case["merged"]
        found = of_one(kind, merged) if merged.is_file() else of_pipeline(merged)
        moved = [name for name, tensor in wanted.items() if name in base and not torch.equal(tensor, base[name])]
        errors = [float((found[name] - wanted[name]).abs().max()) for name in moved]
        effect = max(float((wanted[name] - base[name]).abs().max()) for name in moved)
        results[case["name"]] = {"error": max(errors), "limit": case["limit"], "effect": effect, "weights": len(moved)}
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
