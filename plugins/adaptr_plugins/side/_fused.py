"""Layers of a model as one, token by token: u = Σ a_l h_l, a = softmax(q · LN(h_l) / tau) over l."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def fused(layers: Sequence[Tensor], q: Tensor, tau: float = 1.0, norm: bool = True) -> Tensor:
    """(..., d) of layers (..., d) and a query (d); with `norm` they are scored behind one without weights."""
    import torch
    from torch.nn.functional import layer_norm

    every = torch.stack([*layers])
    seen = layer_norm(every, every.shape[-1:]) if norm else every
    return ((seen @ q / tau).softmax(0)[..., None] * every).sum(0)
