"""Houlsby adapters: y = h + U g(D h + b_d) + b_u after attention and after the feed-forward.  Houlsby et al. 2019,
arXiv:1902.00751.

Weights start as a truncated normal of 1e-2, as the paper says (its code uses 1e-3): near the identity, not exactly.
With `init="zero_up"` a fresh adapter is exactly the identity.

Choose it for encoders with many small tasks, where layers between are no trouble: the oldest and best tried of the
bottlenecks. It can't be merged, so that every token pays for two of them a block for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr import Insert, Param, Target
from adaptr.contract import Costs, Live
from adaptr.families.insert import bottleneck, inner

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    m: int = 64
    activation: Literal["relu", "gelu", "gelu_new", "silu", "tanh"] = "gelu"
    init: Literal["truncated", "zero_up"] = "truncated"


class Houlsby(Insert[Config]):
    name = "houlsby"
    params = {
        "D": Param("m d", init="truncated:0.01"),
        "b_d": Param("m"),
        "U": Param("d m", init="truncated:0.01"),
        "b_u": Param("d"),
    }
    targets = ("attn_out", "ffn_out")
    identity = False
    small = {"m": 8}

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        return bottleneck(h, p, cfg.activation)

    def costs(self, target: Target, cfg: Config) -> Costs:
        d = target.shape[0]
        return Costs(token=d + inner(cfg.activation) * cfg.m, flops=4 * cfg.m * d)

    def init_rule(self, param: str, target: Target) -> str:
        zero = param == "U" and target.config["init"] == "zero_up"
        return "zeros" if zero else super().init_rule(param, target)
