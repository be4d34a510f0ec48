"""Bottlenecks behind a feed-forward that read its sum with the residual, by the base's own norm where it norms that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from adaptr import Insert, Param, Target, roles
from adaptr.contract import Costs, Live
from adaptr.errors import Unsupported
from adaptr.families.insert import inner, read
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


P = TypeVar("P", bound=Config)
NEAR = "normal:0.02"


class OfSum(Insert[P]):
    """The bottleneck is `branch`, of what `read` gives."""

    params = {"D": Param("m d", init=NEAR), "b_d": Param("m"), "U": Param("d m", init=NEAR), "b_u": Param("d")}
    targets = ("ffn_out",)
    identity = False

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

    def read(self, h: Tensor, x: Tensor, p: Live, cfg: P) -> Tensor:
        """What goes into the bottleneck."""
        return read(h, x, p, cfg)

    def costs(self, target: Target, cfg: P) -> Costs | None:
        d, sums = target.shape[0], 1 + bool(cfg.calls)
        return Costs(token=sums * d + inner(cfg.activation) * cfg.m, flops=4 * cfg.m * d)

    def init_rule(self, param: str, target: Target) -> str:
        zero = param == "U" and target.config["init"] == "zero_up"
        return "zeros" if zero else super().init_rule(param, target)
