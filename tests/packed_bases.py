"""Adapters on some layers of packed checkpoints, and what merging them gives in fp32."""

from __future__ import annotations

import torch

from adaptr.adapter import Adapter, Target
from adaptr.checkpoint import Checkpoint
from adaptr.checkpoint.reading import whole

PATHS = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj", "model.layers.0.mlp.gate_proj")


def lora(base: Checkpoint, size: float, paths: tuple[str, ...] = PATHS) -> Adapter:
    """Of rank 4 on some layers, of a size relative to their weights."""
    targets, tensors = {}, {}
    for path in paths:
        W = whole(base.tensors[f"{path}.weight"]).float()
        targets[path] = Target(path, "linear", tuple(W.shape), {"r": 4, "alpha": 4})
        A, B = torch.randn(4, W.shape[1]), torch.randn(W.shape[0], 4)
        tensors |= {f"{path}:A": A, f"{path}:B": B * (size * W.norm() / (B @ A).norm())}
    return Adapter("lora", {}, targets, tensors)


def exact(base: Checkpoint, adapter: Adapter, path: str) -> torch.Tensor:
    W = whole(base.tensors[f"{path}.weight"]).float()
    return W + adapter.tensors[f"{path}:B"] @ adapter.tensors[f"{path}:A"]
