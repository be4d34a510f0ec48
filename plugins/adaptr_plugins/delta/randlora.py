"""RandLoRA: W' = W + s Σ B_j Λ_j A Γ_j, of full rank, with A and all B_j random and frozen.  Albert et al. 2025,
arXiv:2502.00987.

With mn and mx the smaller and the larger side, D (mx, mn), or its transpose, is s Σ_k b_k ⊗ (λ_k a_k ∘ γ_k) over r n
terms, n = ⌈mn / r⌉, s = alpha / r. Which a, b and γ meet is PEFT's: term k = i n + j has row i of A, λ[i, j] and γ[j],
and column k of all B_j side by side. A (r, 1, low) and B (high, bases, r) are for the largest layer; drawn, their
deviation is 1. Those of PEFT are drawn otherwise on each machine, and are stored.

Choose it where a change of full rank is needed in LoRA's numbers or fewer, as the paper has it for vision and language
together. It makes the whole change in every step from many random matrices, which is much slower than LoRA, and files
of PEFT's hold these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import LowRank, Param, Target
from adaptr.contract import Live
from adaptr_plugins.delta import _drawn
from adaptr_plugins.delta._drawn import Drawn, Pair

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Config(_drawn.Config):
    r: int = 32
    alpha: float = 640.0
    rows: int = 1
    cols: int = 1


class RandLoRA(Drawn[Config]):
    name = "randlora"
    params = {
        "A": Param("r 1 low", init="custom", when="stored", trains=False, shared=True),
        "B": Param("high bases r", init="custom", when="stored", trains=False, shared=True),
        "l": Param("r n"),
        "g": Param("n mn", init="fill"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    small = {"r": 12, "alpha": 12.0}
    kept_within = 0.08  # the matrices that its layers share, which each is said to keep
    sizes = {"rows": 0, "cols": 1}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        A, B = self.projections(p, cfg)
        g = p["g"]
        n, mn = g.shape
        a, b = A[:, :, :mn].to(g.device), B[: max(cfg.rows, cfg.cols), :n].flatten(1).to(g.device)
        inner, s = (p["l"].unsqueeze(-1) * a * g).flatten(0, 1), cfg.alpha / cfg.r
        return LowRank(b, inner, s) if mn == cfg.cols else LowRank(inner.mT, b.mT, s)

    def pair(self, cfg: Config) -> Pair:
        low, high = sorted((cfg.in_max, cfg.out_max))
        return Pair((cfg.r, 1, low), (high, -(-low // cfg.r), cfg.r), (3**0.5, 3**0.5))

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "rows": target.shape[0], "cols": target.shape[1]}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        (_, _, low), (high, bases, _), _ = self.pair(cfg)
        mn = min(target.shape)
        return {"low": low, "high": high, "bases": bases, "n": -(-mn // cfg.r), "mn": mn}

    def init_rule(self, param: str, target: Target) -> str:
        sizes = self.axes(target, self.config(target.config))
        return f"fill:{1 / max(sizes['n'], sizes['mn'])}" if param == "g" else super().init_rule(param, target)
