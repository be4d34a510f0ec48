"""LoRA's scale: alpha / r, and alpha / sqrt(r) where it is rank-stabilised."""

from __future__ import annotations

import pytest
from torch import nn

import adaptr
from adaptr.testing import assert_close, shaken


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 6)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 4), (True, 6 / 2)])
def test_the_scale_by_the_rank(rslora: bool, scale: float) -> None:
    adapter = shaken(adaptr.create(Model(), "lora", "layer", r=4, alpha=6, rslora=rslora))
    p = adapter.at("layer")
    assert_close(adapter["layer"].dense(), scale * (p["B"] @ p["A"]))
