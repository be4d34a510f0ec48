"""A model of two layers that are not square, one stored as (in, out), for methods to be held against formulas."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import adaptr
from adaptr.testing import shaken

PATHS = ("wide", "turned")


class Layers(nn.Module):
    """`wide`: 12 to 8, with a bias. `turned`: 8 to 12."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.wide = nn.Linear(12, 8)
            self.turned = Conv1D(12, 8)
            nn.init.normal_(self.turned.weight)
            nn.init.normal_(self.turned.bias)

    def forward(self, x: Tensor) -> Any:
        return self.turned(self.wide(x))

    def weight(self, path: str) -> Tensor:
        """(out, in)."""
        stored = self.get_submodule(path).weight.detach()
        return stored.t() if path == "turned" else stored


def made(method: str, **config: Any) -> adaptr.Adapter:
    """One of both layers, away from where it starts."""
    return shaken(adaptr.create(Layers(), method, list(PATHS), **config))


def change(adapter: adaptr.Adapter, path: str) -> Tensor:
    found: Tensor = adapter[path].dense(torch.float64)
    return found


def inputs(n: int = 5) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(4))
