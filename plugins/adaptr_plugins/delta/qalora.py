"""QA-LoRA: W' = W + s B A P, P the sums of groups of G inputs.  Xu et al. 2023, arXiv:2309.14717.

A sees (in / G) sums instead of the inputs, so that the change is one number for each row and group, as are the zero
points of a base that is quantised in groups of G: where these are floats, as HQQ's are, merging moves them and leaves
the codes (z - s B A / step); whole ones take no less than a step. There are three conventions: sums, as here and in the
paper (not confirmed); means in the authors' code, which is s / G; and means times the number of groups in PEFT,
s in / G². It is plain LoRA of rank r, with each column of A G times. Where `group` is not said, it is the largest
divisor of the inputs up to 32.

Choose it where the base is served quantised in groups and the adapter is to vanish in its zero points. One number for a
row and group is coarse: at the same rank it learns less than LoRA, and on a base in floats there is no reason for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import LowRank, Param, Target
from adaptr.contract import Costs, Live
from adaptr.errors import BadConfig
from adaptr.families.blocks import divisor
from adaptr_plugins.delta import _factors

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Config(_factors.Config):
    group: int = 32


class QALoRA(_factors.Factors[Config]):
    name = "qalora"
    params = {
        "A": Param("r groups", init="kaiming"),
        "B": Param("out r"),
        "b": Param("out", when="bias"),
    }
    kinds = frozenset({"linear", "linear_t"})
    small = {"r": 2, "alpha": 2.0, "group": 4}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        A = p.derived("A", (p["A"],), lambda: p["A"].repeat_interleave(cfg.group, 1))
        return LowRank(p["B"], A, self.scale(cfg))

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        if "group" in values:
            return values
        return {**values, "group": divisor("`qalora`: `group`", Config.group, target.shape[1], target.path)}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        groups, rest = divmod(target.shape[1], max(cfg.group, 1))
        if rest or cfg.group < 1:
            raise BadConfig(
                f"`qalora` at `{target.path}`: `group`",
                got=cfg.group,
                want=f"a divisor of {target.shape[1]}",
            )
        return {"groups": groups}

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        if cfg.dropout:
            return None
        return Costs(input=True, token=cfg.r, once=cfg.r * target.shape[1], flops=2 * cfg.r * sum(target.shape))
