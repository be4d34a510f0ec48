"""MultiLoRA: W' = W + s Σ diag(v_i) B_i A_i, n LoRAs side by side.  Wang et al. 2023, arXiv:2311.11501.

A and B both begin at random, and v, an output's share of each, at zero, so that fresh it is the identity and v alone
moves in the first step. s is alpha / r. The paper's n and r are not confirmed; 3 and 32 have been used.

Choose it for one adapter of many tasks: several LoRAs side by side share out what one would give to the loudest. It has
n times LoRA's numbers and cost, and for one task no advantage over LoRA of rank n r.
"""

from __future__ import annotations

from dataclasses import dataclass

from adaptr import Delta, LowRank, Param, Target
from adaptr.contract import Live


@dataclass(frozen=True)
class Config:
    n: int = 3
    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0


class MultiLoRA(Delta[Config]):
    name = "multilora"
    params = {
        "A": Param("n r in", init="kaiming"),
        "B": Param("n out r", init="kaiming"),
        "v": Param("n out"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("all-linear",)
    portable = True
    small = {"n": 2, "r": 2, "alpha": 2.0}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        B = p["v"].unsqueeze(-1) * p["B"]
        return LowRank(B.transpose(0, 1).flatten(1), p["A"].flatten(0, 1), cfg.alpha / cfg.r)

    def init_rule(self, param: str, target: Target) -> str:
        """The first axis counts LoRAs and is not part of the fan."""
        fan = {"A": target.shape[1], "B": self.config(target.config).r}
        return f"kaiming:{fan[param]}" if param in fan else super().init_rule(param, target)
