"""Small packed checkpoints that tests make, and the parts of packed weights in memory, read and written as in files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.reading import whole
from adaptr.format.header import Entry
from adaptr.packings import Grid

Q = "model.layers.0.self_attn.q_proj"


@dataclass
class Held:
    """A stored tensor, as a `Part` and as a `Sink`."""

    tensor: torch.Tensor
    entry: Entry

    def rows(self, start: int, stop: int | torch.Tensor) -> torch.Tensor:
        if isinstance(stop, torch.Tensor):
            assert stop.dtype == self.tensor.dtype
            self.tensor[start : start + len(stop)] = stop
            return stop
        return self.tensor[start:stop]

    def bytes(self, start: int, stop: int | torch.Tensor) -> torch.Tensor:
        flat = self.tensor.reshape(-1).view(torch.uint8)
        if isinstance(stop, torch.Tensor):
            flat[start : start + len(stop)] = stop
            return stop
        return flat[start:stop]

    def all(self) -> torch.Tensor:
        return self.tensor


def held(folder: Path) -> list[tuple[Packed, Mapping[str, Held]]]:
    """Every packed weight of a checkpoint, with its parts."""
    tensors = load_file(folder / "model.safetensors")
    found = [stored for stored in open_checkpoint(folder).tensors.values() if isinstance(stored, Packed)]
    parts = [{role: Held(tensors[one.name], one.entry) for role, one in stored.parts.items()} for stored in found]
    return list(zip(found, parts, strict=True))


def empty(parts: Mapping[str, Held], main: str) -> dict[str, Held]:
    """The same parts, with no codes."""
    return {**parts, main: Held(torch.zeros_like(parts[main].tensor), parts[main].entry)}


def checkpoint(
    root: Path, tensors: Mapping[str, torch.Tensor], said: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> Path:
    """A folder with these tensors, whose model is bf16, under a `quantization_config`."""
    root.mkdir(parents=True, exist_ok=True)
    every = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(every, root / "model.safetensors", {"format": "pt", **(metadata or {})})
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16"}
    (root / "config.json").write_text(json.dumps({**config, "quantization_config": dict(said)}))
    return root


def require_same(folder: Path, expected: Mapping[str, torch.Tensor], one_to_one: bool = True) -> None:
    """Every weight decodes to these bits, whole and in blocks, and what it decodes to is encoded to the same bytes, if
    no two codes are one value.
    """
    stored = {name: one for name, one in open_checkpoint(folder).tensors.items() if isinstance(one, Packed)}
    assert stored.keys() == expected.keys()
    for name, want in expected.items():
        found = whole(stored[name])
        assert found.dtype == want.dtype
        assert torch.equal(found.view(torch.uint8), want.contiguous().view(torch.uint8)), name
    for one, parts in held(folder):
        codec, want = one.codec, expected[one.name]
        for i in range(1, codec.shape[0], 7):
            assert torch.equal(codec.decode(parts, i, min(i + 7, codec.shape[0])), want[i : i + 7])
        if isinstance(codec, Grid):
            into = empty(parts, codec.main)
            for i in range(0, codec.shape[0], 6):
                codec.put(codec.nearest(want[i : i + 6].float(), parts, i), i, into)
            assert torch.equal(codec.decode(into, 0, codec.shape[0]), want), name
            same = torch.equal(into[codec.main].tensor.view(torch.uint8), parts[codec.main].tensor.view(torch.uint8))
            assert same or not one_to_one, name
