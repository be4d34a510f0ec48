"""A composition of inputs that are low-rank at some places and dense at others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import adaptr
from adaptr import Adapter, Base
from adaptr.changes.deltas import deltas


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(24, 16), nn.Linear(16, 16)


def drawn(method: str, where: str, **config: int) -> Adapter:
    made = adaptr.create(Two(), method, [where], **config)
    g = torch.Generator().manual_seed(1)
    tensors = {key: torch.randn(t.shape, generator=g) for key, t in made.tensors.items()}
    return made.replace(tensors=tensors, base=Base(), name=f"{method}-{where}")


@pytest.mark.parametrize("dense", ["one", "two"])
def test_a_place_that_is_not_low_rank_is_seen_wherever_it_is(dense: str) -> None:
    low = "two" if dense == "one" else "one"
    parts = {"a": drawn("lora", low, r=2), "b": drawn("full", dense)}
    both = adaptr.create(Two(), "stack", children=parts).replace(base=Base())
    made = adaptr.compose([both, drawn("lora", low, r=1)], "linear").adapter
    wanted = deltas(parts["b"])[dense].dense()
    assert made.method == "full"
    torch.testing.assert_close(deltas(made)[dense].dense(), wanted)
