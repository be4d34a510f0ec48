"""Weights that are computed from others, and layers held or read where no source shows it, are adapted too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import adaptr
from adaptr.testing import assert_close, merged
from attached import X, fresh, seeded


def weighed() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(16, 16)), nn.Linear(16, 16))


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "oft", "full"])
def test_parametrised_weights_are_adapted(method: str) -> None:
    model = seeded(weighed)
    adapter = fresh(model, method, ["0"])
    layer = model[0]
    plain = nn.Sequential(nn.Linear(16, 16), model[1])
    plain[0].weight, plain[0].bias = nn.Parameter(layer.weight.detach().clone()), layer.bias
    with torch.no_grad(), adaptr.attach(model, adapter):
        assert_close(model(X), merged(plain, [(adapter, 1.0)])(X), to=2e-5)
        layer.parametrizations.weight.original0.mul_(1.5)  # what is kept of the old weight is noticed
        plain[0].weight.mul_(1.5)
        assert_close(model(X), merged(plain, [(adapter, 1.0)])(X), to=2e-5)


class Listed(nn.Module):
    """Holds its layer where `nn.Module` does not look, and reads it there or by a property."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)
        self.held, self.way = {"list": [self.fc], "tuple": (self.fc,), "dict": {0: self.fc}, "property": None}[way], way

    @property
    def own(self) -> Tensor:
        return self.fc.weight

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.own.T if self.way == "property" else self.held[0].weight.T)  # type: ignore[index]


@pytest.mark.parametrize("way", ["list", "tuple", "dict", "property"])
def test_ways_that_no_source_shows_are_read_with_the_adapter(way: str) -> None:
    model = seeded(lambda: Listed(way))
    adapter = fresh(model, "lora", ["fc"])
    wanted = merged(model, [(adapter, 1.0)])(X)
    with adaptr.attach(model, adapter):
        assert_close(model(X), wanted, to=1e-5)
    with adaptr.train(model, adapter) as session:
        model(X).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in session.parameters())
