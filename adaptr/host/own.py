"""Layers that apply their weight in a way of their own, so that an adapter must be in it and not beside it.

Norms, routers of experts, and subclasses that do more than their kind of layer: tables of positions with an offset,
scaled or normalised outputs, causal padding, standardised weights. What such a forward does is tried, not guessed.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from adaptr.host.layer import base_view, original, raw_forward
from adaptr.host.packed import is_packed
from adaptr.targets import applies_own, is_norm

KNOWN = frozenset(cls.forward for cls in (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d))


def alone(module: nn.Module) -> bool:
    """Whether only the weight of `module` can carry an adapter of weights."""
    return is_norm(module) or applies_own(type(module)) or _does_more(module)


def _does_more(module: nn.Module) -> bool:
    """Whether a linear layer, convolution or table has a forward of its own that gives something else."""
    weight = module._parameters.get("weight")
    if isinstance(module, nn.Embedding) and module.max_norm is not None:
        return True
    if original(module).forward in KNOWN or type(weight) is not nn.Parameter or is_packed(weight):
        return False
    if not isinstance(module, nn.Linear | nn.Embedding | nn.modules.conv._ConvNd):
        return False
    return weight.is_meta or not _as_its_kind(module)


def _as_its_kind(module: nn.Module) -> bool:
    """Whether the forward gives what the operation of its kind gives, on a few inputs."""
    view = base_view(module)
    W, x = view.weight.detach(), _inputs(module)
    devices = [x.device] if x.device.type == "cuda" else []
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices),
        torch.autocast(x.device.type, enabled=False),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            found = raw_forward(module, x)
        except Exception:  # it wants to be called otherwise
            return False
        wanted = view.op(x, W, view.bias)  # type: ignore[misc]
    return isinstance(found, Tensor) and found.shape == wanted.shape and _close(found, wanted)


def _inputs(module: nn.Module) -> Tensor:
    """Rows of both signs and of two sizes; for tables the last row and the first ones."""
    weight = module._parameters["weight"]
    assert weight is not None
    if isinstance(module, nn.Embedding):
        return torch.arange(min(len(weight), 5), device=weight.device).sub(1).remainder(len(weight))[None]
    shape = [module.in_features] if isinstance(module, nn.Linear) else _image(module)
    x = torch.linspace(-1, 1, 97).repeat(-(-torch.Size(shape).numel() // 97))[: torch.Size(shape).numel()]
    return torch.stack([x, -x, 100 * x]).view(3, *shape).to(weight)


def _image(conv: nn.Module) -> list[int]:
    sizes = zip(conv.kernel_size, conv.dilation, strict=True)  # type: ignore[arg-type]
    return [conv.in_channels, *(size * step + 2 for size, step in sizes)]


def _close(found: Tensor, wanted: Tensor) -> bool:
    """Of each row, to a few roundings."""
    error, size = ((t.float().flatten(1).abs().amax(1)) for t in (found - wanted, wanted))
    return bool((error <= 8 * torch.finfo(wanted.dtype).eps * size).all())
