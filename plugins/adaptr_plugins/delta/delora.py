"""DeLoRA: W' = W + l / r Σ b_i a_i / (‖b_i‖ ‖a_i‖) diag(n), n the norms of W's columns.  Bini et al. 2025,
arXiv:2503.18225.

So ‖D‖ is at most l max(n), whatever A and B are; l begins as `start`. n is the base's at the start and is stored: made
again of a merged base it would be another. Norms below 1e-4 count as that, so that a fresh adapter, whose B is zero, is
the identity.

Choose it where training must not run away from the base: how far the weight can move is bounded, so that high rates and
long trainings do less harm than with LoRA. It costs a norm of each factor in every step, and its bound wants to be
chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Delta, LowRank, Param, Target, View
from adaptr.contract import Live
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor

#: The smallest norm that is divided by.
LEAST = 1e-4


@dataclass(frozen=True)
class Config:
    r: int = 8
    start: float = 15.0


class DeLoRA(Delta[Config]):
    name = "delora"
    params = {
        "A": Param("r in", init="kaiming"),
        "B": Param("out r", joint=True),
        "l": Param("1", init="fill"),
        "n": Param("in", init="custom", trains=False),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    small = {"r": 2, "start": 2.0}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        A, B = p["A"], p["B"]
        norms = A.norm(dim=1).clamp(min=LEAST) * B.norm(dim=0).clamp(min=LEAST)
        return LowRank(B * (p["l"] / cfg.r / norms), A * p["n"])

    def init_rule(self, param: str, target: Target) -> str:
        return f"fill:{target.config['start']}" if param == "l" else super().init_rule(param, target)

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"n": wide(base.weight).norm(dim=0).to(made["A"].dtype)}
