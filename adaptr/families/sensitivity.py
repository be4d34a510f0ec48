"""How much a loss depends on each number that trains: |w g|, smoothed over steps, times how uncertain that is.

Zhang et al. 2022, arXiv:2206.12562. What is smoothed is remembered by the session as `<path>:<name>.mean` and
`.spread`, so that training that goes on knows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.host import Session

MEAN, SPREAD = ".mean", ".spread"


def weigh(session: Session, beta1: float, beta2: float) -> None:
    """Look at the gradients of this step; fp16 would hold none of what comes of them."""
    import torch

    for path, state in session.states.items():
        for name in state:
            w = state[name]
            if w.grad is None:
                continue
            now = (wide(w) * wide(w.grad)).abs().detach()
            keys = f"{path}:{name}{MEAN}", f"{path}:{name}{SPREAD}"
            mean, U = (session.memory.get(key, torch.zeros_like(now)).to(now.device) for key in keys)
            mean = beta1 * mean + (1 - beta1) * now
            U = beta2 * U + (1 - beta2) * (now - mean).abs()
            session.memory.update(zip(keys, (mean, U), strict=True))


def of(session: Session, path: str, name: str) -> Tensor | None:
    """The sensitivity of each number of a tensor, None where nothing is remembered of its training."""
    mean, spread = (session.memory.get(f"{path}:{name}{what}") for what in (MEAN, SPREAD))
    return None if mean is None or spread is None else mean * spread
