"""Pfeiffer adapters: y = h + U relu(D LN(h + r) + b_d) + b_u after the feed-forward, r its residual.  Pfeiffer et al.
2020, arXiv:2005.00052.

LN is the base's own norm, which the sum of y and r goes into afterwards, so that it runs twice. Models that norm before
their feed-forwards have none there: D reads h alone, or h + r with `residual`, as AdapterHub has it, whose sums grow
with depth. Weights start as a normal of 0.02: near the identity, not exactly; with `init="zero_up"` it is.

Choose it for encoders with many tasks: half of `houlsby`, with hardly less learnt, and what fusions and stacks of
languages and tasks are made of. It can't be merged, so that every token pays for one of them a block for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Insert, Param, Target, roles
from adaptr.contract import Costs, Live
from adaptr.errors import Unsupported
from adaptr.families.insert import bottleneck, inner
from adaptr.targets import text_config

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """`calls`: the norm, `reads`: the module whose input is r, "" for none and for the place itself."""

    m: int = 48
    activation: Literal["relu", "gelu", "gelu_new", "silu", "tanh"] = "relu"
    init: Literal["normal", "zero_up"] = "normal"
    residual: bool = False
    calls: str = ""
    reads: str = ""


class Pfeiffer(Insert[Config]):
    name = "pfeiffer"
    params = {
        "D": Param("m d", init="normal:0.02"),
        "b_d": Param("m"),
        "U": Param("d m", init="normal:0.02"),
        "b_u": Param("d"),
    }
    targets = ("ffn_out",)
    identity = False
    small = {"m": 8}

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        path, modules = target.path, {name for name, _ in model.named_modules()}
        norm = roles.sum_norm(path, getattr(text_config(model), "model_type", ""), modules)
        if not values.get("residual", norm):
            return values
        reads = values.get("reads", roles.ffn_input(path) if norm else roles.residual(path, modules))
        if not (norm or reads):
            raise Unsupported(
                f"`{self.name}`: what is summed with the output of `{path}` is not known",
                hint="say the module whose input it is (`reads`), or leave `residual` out",
            )
        return {"residual": True, "calls": norm, "reads": reads, **values}

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        z = h + x if cfg.residual else h
        return bottleneck(p.call(cfg.calls, z) if cfg.calls else z, p, cfg.activation)

    def costs(self, target: Target, cfg: Config) -> Costs:
        d, sums = target.shape[0], 1 + bool(cfg.calls)
        return Costs(token=sums * d + inner(cfg.activation) * cfg.m, flops=4 * cfg.m * d)

    def init_rule(self, param: str, target: Target) -> str:
        zero = param == "U" and target.config["init"] == "zero_up"
        return "zeros" if zero else super().init_rule(param, target)
