"""Pfeiffer adapters: y = h + U relu(D LN(h + r) + b_d) + b_u after the feed-forward, r its residual.  Pfeiffer et al.
2020, arXiv:2005.00052.

LN is the base's own norm, which the sum of y and r goes into afterwards, so that it runs twice. Models that norm before
their feed-forwards have none there: D reads h alone, or h + r with `residual`, as AdapterHub has it, whose sums grow
with depth. Weights start as a normal of 0.02: near the identity, not exactly; with `init="zero_up"` it is.

Choose it for encoders with many tasks: half of `houlsby`, with hardly less learnt, and what fusions and stacks of
languages and tasks are made of. It can't be merged, so that every token pays for one of them a block for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.contract import Live
from adaptr.families.insert import bottleneck
from adaptr_plugins.insert._sums import Config, OfSum

if TYPE_CHECKING:
    from torch import Tensor


class Pfeiffer(OfSum[Config]):
    name = "pfeiffer"
    small = {"m": 8}

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        return bottleneck(self.read(h, x, p, cfg), p, cfg.activation)
