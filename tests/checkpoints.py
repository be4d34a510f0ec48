"""Tiny checkpoints on disk, adapters for them with every tensor random, and what models made of them say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tiny
from adaptr import api
from adaptr.adapter import Adapter, Target
from adaptr.files import record


def saved(kind: str, folder: Path, dtype: torch.dtype = torch.float32, shard: str = "5GB", seed: int = 0) -> Path:
    """A random tiny model in a folder. `shard`: the size at which a new file begins."""
    torch.manual_seed(seed)
    tiny.MAKERS[kind]().to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def model_of(folder: Path) -> nn.Module:
    """The model in a folder, in the dtype of its files; nothing in them may be missing or left over."""
    config = transformers.AutoConfig.from_pretrained(folder)
    cls = getattr(transformers, config.architectures[0])
    model, told = cls.from_pretrained(folder, output_loading_info=True, dtype="auto")
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    return model.eval()


def randomised(
    model: nn.Module | Path, method: str = "lora", targets: Any = None, seed: int = 0, **config: Any
) -> Adapter:
    """An adapter that changes what the model says: all but places of entries off its start by a few per cent."""
    model = model_of(model) if isinstance(model, Path) else model
    adapter = api.create(model.float(), method, targets, **config)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        k: t + 0.1 * torch.randn(t.shape, generator=generator) if t.is_floating_point() else t
        for k, t in adapter.tensors.items()
    }
    return adapter.replace(tensors=tensors)


def lora_at(target: Target, seed: int = 0, scale: float = 0.1, r: int = 2, bias: bool = False) -> Adapter:
    """A LoRA for one place, made without a model. `target` without configuration."""
    e, (out, into), k = target.dims.get("e", ()), (target.dims["out"], target.dims["in"]), target.dims.get("k", ())
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        f"{target.path}:A": scale * torch.randn((*e, r, into, *k), generator=generator),
        f"{target.path}:B": torch.randn((*e, out, r, *(1 for _ in k)), generator=generator),
    }
    config = {"r": r, "alpha": float(r), "dropout": 0.0, "rslora": False, "bias": bias}
    if bias:
        tensors[f"{target.path}:b"] = torch.randn(out, generator=generator)
    place = Target(target.path, target.kind, target.shape, config)
    return Adapter("lora", config, {target.path: place}, tensors)


def delta(adapter: Adapter, path: str) -> Tensor:
    """s B A of `lora_at`, where s = 1."""
    found: Tensor = adapter.tensors[f"{path}:B"].float() @ adapter.tensors[f"{path}:A"].float()
    return found


def bare(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> Path:
    """A checkpoint of one file with these tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: t.contiguous() for k, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's safetensors files."""
    return {k: t for path in sorted(folder.glob("*.safetensors")) for k, t in load_file(path).items()}


def digests(folder: Path, but: str = "") -> dict[str, str]:
    """sha256 of every file but the record of outputs, by its path. `but`: a folder in it to leave out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != record.NAME and not (but and path.is_relative_to(folder / but))
    }


def logits(model: nn.Module, kind: str) -> Tensor:
    """What a model says to the usual input of its kind."""
    with torch.no_grad():
        found: Tensor = model(**tiny.inputs(kind)).logits
    return found


def flip(path: Path, at: int, mask: int = 1) -> None:
    """Flip bits of one byte of a file."""
    raw = bytearray(path.read_bytes())
    raw[at] ^= mask
    path.write_bytes(raw)


def lora_at_q(seed: int = 0) -> Adapter:
    """A LoRA on the first query of the tiny Llama."""
    return lora_at(Target("model.layers.0.self_attn.q_proj", "linear", (tiny.WIDTH, tiny.WIDTH)), seed=seed)
