"""How fresh tensors start. Names as used in `Param(init=...)`."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import Generator, Tensor


def fresh(init: str, shape: tuple[int, ...], generator: Generator | None, stacked: bool = False) -> Tensor:
    """A new fp32 tensor, on the meta device if there is no generator. `init`: zeros, ones, fill:VALUE, kaiming (uniform
    in +-1/sqrt(fan in), the reference LoRA's choice; kaiming:FAN where the shape does not say it), uniform:BOUND (in
    +-BOUND), normal:STD (N(0, STD²)), or truncated:STD (the same cut at two deviations). `stacked`: the first axis
    counts experts, so it is not part of the fan.
    """
    import torch

    if generator is None:
        return torch.empty(shape, device="meta")
    kind, _, argument = init.partition(":")
    if kind == "zeros":
        return torch.zeros(shape)
    if kind == "ones":
        return torch.ones(shape)
    if kind == "fill":
        return torch.full(shape, float(argument))
    if kind == "kaiming":
        fan_in = float(argument or max(math.prod(shape[2 if stacked else 1 :]), 1))
        bound = 1.0 / math.sqrt(fan_in)
        return torch.rand(shape, generator=generator) * (2 * bound) - bound
    if kind == "uniform":
        return torch.rand(shape, generator=generator) * (2 * float(argument)) - float(argument)
    if kind == "normal":
        return torch.randn(shape, generator=generator) * float(argument or 1)
    if kind == "truncated":
        std = float(argument or 1)
        return torch.nn.init.trunc_normal_(torch.empty(shape), std=std, a=-2 * std, b=2 * std, generator=generator)
    raise BadConfig(
        "the initialisation",
        got=f"`{init}`",
        want="zeros, ones, fill:VALUE, kaiming, kaiming:FAN, uniform:BOUND, normal:STD or truncated:STD",
    )


def unmade(shapes: Mapping[str, tuple[int, ...]], made: Container[str]) -> dict[str, Tensor]:
    """Those of `shapes` that are not `made`, on the meta device."""
    import torch

    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items() if name not in made}
