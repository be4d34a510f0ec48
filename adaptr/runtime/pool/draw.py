"""A token drawn from what a model says."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from adaptr.runtime.pool.request import Request


def drawn(logits: Tensor, request: Request, draws: torch.Generator) -> int:
    """A token from logits (vocabulary), of which the largest is finite, at a temperature above 0."""
    found = logits.cpu().double()
    # what is far below the largest gets -inf and no chance, whatever it is divided by; the least normal number is
    # less than any two logits differ by, so that nothing changes below it
    chances = (found - found.max()) / max(request.temperature, sys.float_info.min)
    likely, order = chances.softmax(0).sort(descending=True)
    likely[likely.cumsum(0) - likely >= request.top_p] = 0
    return int(order[torch.multinomial(likely, 1, generator=draws)])
