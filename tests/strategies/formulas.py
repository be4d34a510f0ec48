"""A strategy's formula over operators, and small adapters to compose by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import adaptr
from adaptr import strategies
from adaptr.algebra.operator import Operator
from adaptr.strategies.base import Place

SHAPE = (12, 7)


def made(name: str, ops: Sequence[Operator], weights: Sequence[float], **given: Any) -> Tensor:
    place = {key: given.pop(key) for key in ("inputs", "absent") if key in given}
    strategy = strategies.get(name)
    found = strategy.make(ops, weights, strategy.config(given), Place("layer", **place), None, None)
    return found.operator.dense(torch.float64)


def exact(op: Operator) -> Tensor:
    return op.dense(torch.float64)


def close(found: Tensor, wanted: Tensor, to: float = 1e-5) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=to * max(float(wanted.abs().max()), 1e-30))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.fd = (nn.Linear(16, 12, bias=False) for _ in "cd")
        for weight in self.parameters():
            nn.init.zeros_(weight)


def lora(seed: int, targets: Sequence[str] = ("fc", "fd"), r: int = 4, by: float = 0.2) -> Any:
    made = adaptr.create(Two(), "lora", list(targets), r=r, alpha=r, name=f"a{seed}")
    g = torch.Generator().manual_seed(seed)
    return made.replace(tensors={k: torch.randn(t.shape, generator=g) * by for k, t in made.tensors.items()})


def delta(adapter: Any, path: str = "fc") -> Tensor:
    found = adapter.at(path)
    return found["D"].double() if "D" in found else found["B"].double() @ found["A"].double()
