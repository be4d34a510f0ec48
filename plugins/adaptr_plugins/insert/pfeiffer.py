"""Pfeiffer adapters: y = h + U relu(D LN(h + r) + b_d) + b_u after the feed-forward, r its residual.  Pfeiffer et al.
2020, arXiv:2005.00052.

LN is the base's own norm, which the sum of y and r goes into afterwards, so that it runs twice. Models that norm before
their feed-forwards have none there: D reads h alone, or h + r with `residual`, as AdapterHub has it, whose sums grow
with depth. `normed` adds one of its own before D, and `keeps` says what the rest is added to: the output h, the `sum`
h + r, or what D `read`s; AdapterHub can have both. Weights start as a normal of 0.02: near the identity, not exactly;
with `init="zero_up"` it is.

Choose it for encoders with many tasks: half of `houlsby`, with hardly less learnt, and what fusions and stacks of
languages and tasks are made of. It can't be merged, so that every token pays for one of them a block for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr import Param
from adaptr.contract import Live
from adaptr.families.insert import bottleneck
from adaptr_plugins.insert import _sums

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr import Target
    from adaptr.contract import Costs


@dataclass(frozen=True)
class Config(_sums.Config):
    normed: bool = False
    keeps: Literal["output", "sum", "read"] = "output"


class Pfeiffer(_sums.OfSum[Config]):
    name = "pfeiffer"
    params = {
        "g": Param("d", init="ones", when="normed"),
        "c": Param("d", when="normed"),
        **_sums.OfSum.params,
    }
    small = {"m": 8}

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        from torch.nn.functional import layer_norm

        z = self.read(h, x, p, cfg)
        y = bottleneck(layer_norm(z, z.shape[-1:], p["g"], p["c"]) if cfg.normed else z, p, cfg.activation)
        return y if cfg.keeps == "output" else y + (x if cfg.keeps == "sum" else z - h)

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        return super().costs(target, cfg) if (cfg.normed, cfg.keeps) == (False, "output") else None
