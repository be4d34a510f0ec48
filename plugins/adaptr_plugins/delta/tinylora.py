"""TinyLoRA: W' = W + B (Σ v_k P_k) A, A and B the r largest singular directions of W, each with the root of its value.
Morris et al. 2026, arXiv:2602.04118.

A, B and the random P_k (r, r) are frozen and stored; the u numbers v are trained. Layers in a row share them: with
`tie` t there are about (1 - t) times as many `groups` as layers, one for all with 1. Of a group of `tie` 0 each layer
is one. `index`: which of all layers it is.

Choose it for the smallest adapters that still learn, as in reinforcement learning, down to a vector for the whole
model. What is frozen, as large as a LoRA of rank `r`, is stored too; supervised training wants more numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adaptr import Delta, LowRank, Param, Target, View
from adaptr.contract import Live
from adaptr.errors import BadConfig
from adaptr.families.init import unmade
from adaptr.precision import wide
from adaptr_plugins.delta._begun import halved, leading

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    r: int = 2
    u: int = 64
    tie: float = 0.0
    dropout: float = 0.0
    groups: int = 1
    group: int = 0
    index: int = 0


class TinyLoRA(Delta[Config]):
    name = "tinylora"
    params = {
        "v": Param("groups u", shared=True),
        "A": Param("r in", init="custom", trains=False),
        "B": Param("out r", init="custom", trains=False),
        "P": Param("u r r", init="normal", trains=False),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    least = {"group": 0}
    small = {"u": 5, "tie": 0.5}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        import torch

        R = torch.einsum("k,kij->ij", p["v"][cfg.group], p["P"])
        return LowRank(p["B"], R @ p["A"])

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        tie = self.config(values).tie
        if not 0 <= tie <= 1:
            raise BadConfig("`tinylora`: `tie`", got=tie, want="from 0 to 1")
        return {**values, "groups": groups(len(places), tie)}

    def together(self, model: nn.Module, targets: Sequence[Target]) -> Sequence[Target]:
        L, count = len(targets), targets[0].config["groups"]
        return [
            replace(one, config={**one.config, "index": n, "group": group(n, L, count)})
            for n, one in enumerate(targets)
        ]

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "r": min(self.config(values).r, *target.shape)}

    def init_rule(self, param: str, target: Target) -> str:
        return f"normal:{target.config['r'] ** -0.5}" if param == "P" else super().init_rule(param, target)

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if base.weight.is_meta:
            return unmade(self.shapes(target), made)
        B, A = halved(*leading(wide(base.weight), self.config(target.config).r), 1.0)
        return {"A": A.float().contiguous(), "B": B.float().contiguous()}


def groups(layers: int, tie: float) -> int:
    """How many there are, rounded as PEFT does."""
    return max(1, round(layers * (1 - tie)))


def group(index: int, layers: int, groups: int) -> int:
    """Which group a layer is of: the last has the rest."""
    return min(index // max(1, layers // groups), groups - 1)
