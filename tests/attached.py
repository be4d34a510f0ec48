"""What tests of attaching have in common: fresh adapters that do something, and what a model says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import adaptr
import tiny
from adaptr.testing import logits, shaken

X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(7))


def run(model: torch.nn.Module, name: str = "gpt2") -> torch.Tensor:
    with torch.no_grad():
        return logits(model(**tiny.inputs(name)))


def made(model: torch.nn.Module, method: str, seed: int = 1, **config: object) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, name=f"{method}{seed}", **config), seed)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def fresh(model: nn.Module, method: str, paths: list[str], seed: int = 1, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, paths, name=f"a{seed}", **config), seed, 0.5)
