"""A small net of the layers that LyCORIS adapts, and what each of them computes."""

from __future__ import annotations

import math

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = {
            "fc_1": nn.Linear(20, 36),
            "to_q": nn.Linear(36, 36, bias=False),
            "conv": nn.Conv2d(6, 16, 3),
            "point": nn.Conv2d(6, 16, 1),
            "line": nn.Conv1d(6, 16, 3),
        }
        self.down = nn.ModuleList([nn.ModuleDict(layers)])
        self.norm = nn.LayerNorm(36)
        self.to_out = nn.ModuleList([nn.Linear(36, 24)])


def drawn() -> Net:
    """The same values each time, in fp32."""
    net, draw = Net(), torch.Generator().manual_seed(0)
    for _, value in sorted(net.named_parameters()):
        value.data = 0.3 * torch.randn(value.shape, generator=draw) + (1.0 if value.ndim == 1 else 0.0)
    return net.eval()


def outputs(net: nn.Module, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """(n,) in fp64: effective weight and bias of every layer, of what its forward makes of each input alone."""
    found = []
    with torch.no_grad():
        for _, layer in sorted(net.to(dtype).named_modules()):
            if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
                inputs = _alone(layer).to(dtype)
                bias = layer(torch.zeros_like(inputs[:1]))
                found += [layer(inputs) - bias, bias]
            elif isinstance(layer, nn.LayerNorm):
                found.append(layer(torch.linspace(-1, 1, 36, dtype=dtype) ** 3))
    return torch.cat([one.reshape(-1).double() for one in found])


def _alone(layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> torch.Tensor:
    """Every input of a layer: (n, in), or (n, in, *kernel)."""
    shape = (layer.in_features,) if isinstance(layer, nn.Linear) else (layer.in_channels, *layer.kernel_size)
    count = math.prod(shape)
    return torch.eye(count, dtype=torch.float64).reshape(count, *shape)
