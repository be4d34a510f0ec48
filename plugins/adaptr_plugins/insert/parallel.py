"""Scaled parallel adapter: y = h + s (U relu(D x + b_d) + b_u), x the feed-forward's input, h its output.  He et al.
2021, arXiv:2110.04366.

U starts at zero, so a fresh adapter is exactly the identity.

Choose it to change the feed-forwards where nothing need be merged: it is LoRA with a bend in the middle, beside the
whole block, and in the paper that was the best place for a larger budget. Every token pays for it for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Insert, Param, Target, roles
from adaptr.contract import Costs, Live
from adaptr.families.insert import bottleneck, inner

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    m: int = 512
    s: float = 4.0
    activation: Literal["relu", "gelu", "gelu_new", "silu", "tanh"] = "relu"
    dropout: float = 0.0
    reads: str = ""


class Parallel(Insert[Config]):
    name = "parallel"
    params = {
        "D": Param("m d", init="kaiming"),
        "b_d": Param("m"),
        "U": Param("d m", init="zeros"),
        "b_u": Param("d"),
    }
    targets = ("ffn_out",)
    small = {"m": 8}
    rate = 1e-4  # the paper's; at 1e-3 so wide a bottleneck, four times over, ends in one answer for all

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {"reads": roles.ffn_input(target.path), **values}

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        return cfg.s * bottleneck(x, p, cfg.activation, cfg.dropout)

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        if cfg.dropout:
            return None
        d = target.shape[0]
        return Costs(token=d + inner(cfg.activation) * cfg.m, flops=4 * cfg.m * d)
