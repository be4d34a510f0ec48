"""Adapters to compose, and the sum that they are held against."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import adaptr
import tiny
from adaptr.adapter import Adapter
from adaptr.changes.deltas import deltas


def filled(adapter: Adapter, seed: int, name: str = "") -> Adapter:
    """The adapter with random values, around one for what scales."""
    g = torch.Generator().manual_seed(seed)
    values = {}
    for key, t in adapter.tensors.items():
        noise = 0.1 * torch.randn(t.shape, generator=g) if t.is_floating_point() else t
        values[key] = noise + 1 if key.endswith((":m", ":l")) else noise
    return adapter.replace(tensors=values, name=name)


def lora(seed: int, model: str = "llama", **config: Any) -> Adapter:
    method = config.pop("method", "lora")
    return filled(adaptr.create(tiny.model(model), method, **{"r": 4, **config}), seed, f"a{seed}")


def dense(adapter: Adapter, base: Any = None) -> dict[str, Tensor]:
    found = deltas(adapter, base)
    return {path: found[path].dense(torch.float64) for path in found}


def assert_sum(result: Adapter, parts: list[tuple[Adapter, float]], base: Any = None) -> None:
    want: dict[str, Tensor] = {}
    for adapter, weight in parts:
        for path, D in dense(adapter, base).items():
            want[path] = want.get(path, 0) + weight * D
    found = dense(result)
    assert set(found) == set(want)
    for path, D in want.items():
        torch.testing.assert_close(found[path], D, rtol=1e-5, atol=1e-6)
