"""Models of one layer, adapters for them away from where they start, and the same numbers in fp64."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import adaptr
from adaptr import Adapter, Base
from adaptr.changes.deltas import deltas

HALF = (torch.float16, torch.bfloat16)
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"r": 3, "bias": True},
    "adalora": {"r": 3},
    "loha": {"r": 2},
    "lokr": {"r": 2, "factor": 4, "decompose_both": True},
    "vera": {"r": 4},
    "shira": {"r": 1, "alpha": 0.3},
    "full": {"bias": True},
}
TRANSFORMS: dict[str, dict[str, Any]] = {"dora": {"r": 3}, "ia3": {"side": "out"}, "oft": {"b": 4},
    "boft": {"b": 4, "m": 2}, "hra": {"r": 4}}  # fmt: skip
TUCKER = {name: {"r": 2, "tucker": True} for name in ("lora", "loha", "lokr")}


class One(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.fc = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(x)
        return y


def linear(into: int = 24, out: int = 16) -> One:
    torch.manual_seed(0)
    return One(nn.Linear(into, out)).eval()


def conv() -> One:
    torch.manual_seed(0)
    return One(nn.Conv2d(8, 16, 3)).eval()


def drawn(model: nn.Module, method: str, dtype: torch.dtype, by: float = 0.3, seed: int = 1, **config: Any) -> Adapter:
    """An adapter with all its tensors away from where they start, stored in `dtype`, for any base."""
    made = adaptr.create(model, method, ["fc"], **config)
    g = torch.Generator().manual_seed(seed)
    tensors = {
        key: (t + by * torch.randn(t.shape, generator=g)).to(dtype) if t.is_floating_point() else t
        for key, t in made.tensors.items()
    }
    return made.replace(tensors=tensors, base=Base(), name=f"{method}-{seed}")


def doubled(adapter: Adapter) -> Adapter:
    """The reference: the same numbers in fp64."""
    return adapter.replace(tensors={k: t.double() if t.is_floating_point() else t for k, t in adapter.tensors.items()})


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def dense(adapter: Adapter) -> torch.Tensor:
    return deltas(adapter)["fc"].dense(torch.float64)
