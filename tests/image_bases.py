"""Bases of image models for tests: a pipeline's folder as diffusers saves it, and published files of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def pipeline(folder: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    """A pipeline with these tensors, {component.name: values}, a scheduler and a licence."""
    parts: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        component, _, rest = name.partition(".")
        parts.setdefault(component, {})[rest] = tensor.contiguous()
    for component, own in parts.items():
        (folder / component).mkdir(parents=True)
        text = component.startswith("text_encoder")
        save_file(own, folder / component / f"{'model' if text else 'diffusion_pytorch_model'}.safetensors")
        (folder / component / "config.json").write_text("{}")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    index = {"_class_name": "Pipeline", **{name: ["library", "Class"] for name in (*parts, "scheduler")}}
    (folder / "model_index.json").write_text(json.dumps({**index, "safety_checker": [None, None]}))
    (folder / "LICENSE.md").write_text("free")
    return folder


def one_file(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
    return path


def read(root: Path) -> Tensors:
    """The tensors of either, as `pipeline` takes them."""
    if root.is_file():
        return load_file(root)
    return {
        f"{file.parent.name}.{name}": tensor
        for file in root.glob("*/*.safetensors")
        if file.parent.name != "adaptr"
        for name, tensor in load_file(file).items()
    }
