"""Tied-LoRA: W' = W + s diag(v) B diag(u) A, A and B learnt once for all layers.  Renduchintala et al. 2023,
arXiv:2311.09578.

Layers have u (r) and v (out) of their own. Layers of one name, such as `q_proj`, have the same rows of B (the paper's
is that of a joined q, k and v), and all have as many columns of A as they are wide. `learn_a`, `learn_b`: whether A and
B learn, or stay as they were drawn; `u`, `v`: whether these are there, and not ones. All four are the paper's TL6,
without u and v it is TL5; what its other numbers stand for is not confirmed. Where B stays random, v begins at zero.

Choose it where LoRA's file is too large and VeRA too weak: the factors are learnt, once for all layers. What layers
need differently has two vectors each; on bases whose layers differ much it falls behind LoRA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr import Delta, LowRank, Param, Target
from adaptr.contract import Live
from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Config:
    """`rows`, `in_max`: sizes of B and A, which follow from the targets, and `starts` where in B each name's rows are;
    `start`, `height`, `width`: the first of a target's rows, how many they are, and its columns of A.
    """

    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    learn_a: bool = True
    learn_b: bool = True
    u: bool = True
    v: bool = True
    rows: int = 1
    in_max: int = 1
    starts: dict[str, int] = field(default_factory=dict)
    start: int = 0
    height: int = 1
    width: int = 1


class TiedLoRA(Delta[Config]):
    name = "tied-lora"
    params = {
        "A": Param("r in_max", init="kaiming", when="learn_a", shared=True),
        "B": Param("rows r", when="learn_b", shared=True),
        "A_": Param("r in_max", init="kaiming", unless="learn_a", trains=False, shared=True),
        "B_": Param("rows r", init="kaiming", unless="learn_b", trains=False, shared=True),
        "u": Param("r", init="ones", when="u"),
        "v": Param("out", init="ones", when="v"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q|attn.qkv", "attn.k|attn.qkv", "attn.v|attn.qkv")
    portable = True
    small = {"r": 2, "alpha": 2.0}
    sizes = {"height": 0, "width": 1}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        A = (p["A"] if cfg.learn_a else p["A_"])[:, : cfg.width]
        B = (p["B"] if cfg.learn_b else p["B_"])[cfg.start : cfg.start + cfg.height]
        B = p["v"].unsqueeze(-1) * B if cfg.v else B
        return LowRank(B, p["u"].unsqueeze(-1) * A if cfg.u else A, cfg.alpha / cfg.r)

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        high: dict[str, int] = {}
        for place in places:
            high[_last(place)] = max(high.get(_last(place), 0), place.shape[0])
        starts = {name: sum(list(high.values())[:i]) for i, name in enumerate(high)}
        return {**values, "rows": sum(high.values()), "in_max": max(p.shape[1] for p in places), "starts": starts}

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        rows, columns = target.shape
        return {**values, "starts": {}, "start": values["starts"][_last(target)], "height": rows, "width": columns}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if not (cfg.learn_b or cfg.v):
            raise BadConfig("`tied-lora`: `learn_b` and `v`", verb="are", got="both false", want="one to begin at zero")
        return {}

    def init_rule(self, param: str, target: Target) -> str:
        begins = param == "v" and not self.config(target.config).learn_b
        return "zeros" if begins else super().init_rule(param, target)


def _last(target: Target) -> str:
    return target.path.rpartition(".")[2]
