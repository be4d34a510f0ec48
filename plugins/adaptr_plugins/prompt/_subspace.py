"""The auto-encoder of intrinsic prompt tuning: prompts as a few numbers each, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Live

#: The decoder as it stays, and as it learns.
STAYS, LEARNS = ("D1", "d1", "D2", "d2"), ("F1", "f1", "F2", "f2")


def codes(p: Mapping[str, Tensor] | Live) -> Tensor:
    """z (sources, intrinsic) of the prompts."""
    return p["S"].flatten(1) @ p["E"].flatten(1).mT + p["e"]


def decoded(p: Mapping[str, Tensor] | Live, z: Tensor) -> Tensor:
    """P (..., tokens, d) of z (..., intrinsic)."""
    import torch

    D1, d1, D2, d2 = (p[name] for name in (LEARNS if "F1" in p else STAYS))
    return torch.einsum("tdh,...h->...td", D2, torch.tanh(z @ D1.mT + d1)) + d2


def fit(begun: Mapping[str, Tensor], prompts: Tensor, steps: int) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
    """The decoder, by its names, that gives prompts (n, tokens, d) back of what a linear encoder makes of them, and the
    encoder.
    """
    import torch

    decoder = {name: begun[f":{name}"].clone().requires_grad_() for name in STAYS}
    encoder = torch.nn.Linear(prompts[0].numel(), len(begun[":z"]))
    optimiser = torch.optim.Adam([*decoder.values(), *encoder.parameters()], lr=1e-3)
    with torch.enable_grad():
        for _ in range(steps):
            optimiser.zero_grad()
            loss = (decoded(decoder, encoder(prompts.flatten(1))) - prompts).square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    kept = {name: tensor.detach() for name, tensor in decoder.items()}
    return kept, (encoder.weight.detach(), encoder.bias.detach())
