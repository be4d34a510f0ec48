"""KronA-B: y = h + s x (A ⊗ B), x the feed-forward's input, h its output.  Edalati et al. 2022, arXiv:2212.10650.

A is (a1, a2) and B (b1, b2), with d = a1 b1 = a2 b2; x as rows (a1, b1) becomes Aᵀ X B, so that their product is never
made. A module beside the feed-forward: what is non-linear stands between its weights, and nothing folds into
them. Fresh, B is zero ([M]).

Choose it where a feed-forward should get a small linear way around it, and nothing has to be merged. It costs two
small products for each token, for ever. It can't do what is non-linear in x: `parallel` can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Insert, Param, Target, roles
from adaptr.contract import Live
from adaptr.errors import phrases
from adaptr.precision import at_least, wide
from adaptr_plugins.delta.krona import sizes

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    s: float = 1.0
    a1: int = 1
    a2: int = 1
    b1: int = 1
    b2: int = 1
    reads: str = ""


class KronAB(Insert[Config]):
    name = "krona-b"
    params = {"A": Param("a1 a2", init="kaiming"), "B": Param("b1 b2")}
    targets = ("ffn_out",)
    unmergeable = "elsewhere"

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        d = target.shape[0]
        return {**sizes(d, d), "reads": roles.ffn_input(target.path), **values}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        found, d = (cfg.a1 * cfg.b1, cfg.a2 * cfg.b2), target.shape[0]
        if found != (d, d):
            raise phrases.misshapen(f"`{self.name}`: A ⊗ B at `{target.path}`", found, (d, d), by="by the place")
        return {}

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        A, B = wide(p["A"]), wide(p["B"])
        X = at_least(x, A.dtype).reshape(*x.shape[:-1], cfg.a1, cfg.b1)
        return (cfg.s * (A.mT @ X @ B)).flatten(-2).to(h.dtype)
