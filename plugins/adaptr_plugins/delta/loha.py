"""LoHa: W' = W + s (w1_a w1_b) ∘ (w2_a w2_b), s = alpha / r.  Hyeon-Woo et al. 2021, arXiv:2108.06098.

The Hadamard product of two rank-r matrices has a rank of up to r². Convolutions are flattened to (out, in*k), or with
`tucker` each factor is a core t (r, r, *k) between w_a (out, r) and d (r, in), the paper's proposition 3. Fresh, w2_b
(or d2) is zero and the rest He-uniform, as the paper has it.

Choose it for a change of high rank in as few numbers as a LoRA of low rank has, as is usual with image models. The
change is formed whole in every step, so that it is slower than LoRA, and with r below 4 its rank is no higher than
LoRA's at the same size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Delta, Hadamard, LowRank, Param
from adaptr.contract import Live

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    r: int = 8
    alpha: float = 8.0
    tucker: bool = False


class LoHa(Delta[Config]):
    name = "loha"
    params = {
        "w1_a": Param("out r", init="kaiming"),
        "w1_b": Param("r in *k", init="kaiming", unless="tucker"),
        "w2_a": Param("out r", init="kaiming"),
        "w2_b": Param("r in *k", unless="tucker"),
        "t1": Param("r r *k", init="kaiming", when="tucker"),
        "d1": Param("r in", init="kaiming", when="tucker"),
        "t2": Param("r r *k", init="kaiming", when="tucker"),
        "d2": Param("r in", when="tucker"),
    }
    kinds = frozenset({"linear", "linear_t", "embedding", "conv1d", "conv2d", "conv3d"})
    targets = ("all-linear",)
    portable = True

    def delta(self, p: Live, cfg: Config) -> Hadamard:
        return Hadamard(self.factor(p, cfg, "1"), self.factor(p, cfg, "2"), cfg.alpha / cfg.r)

    def factor(self, p: Live, cfg: Config, side: str) -> LowRank:
        B = p[f"w{side}_a"]
        A = through(p[f"t{side}"], p[f"d{side}"]) if cfg.tucker else p[f"w{side}_b"]
        return LowRank.of(B, A.flatten(1), (len(B), *A.shape[1:]))


def through(t: Tensor, d: Tensor) -> Tensor:
    """Σ_j t[i, j, *k] d[j, q]: the core (r, r, *k) applied to d (r, in), giving (r, in, *k).

    One term after the other: such a sum has the same bits on every machine.
    """
    kernel = (1 for _ in t.shape[2:])
    rows = d.view(*d.shape, *kernel)
    total = t[:, 0].unsqueeze(1) * rows[0]
    for j in range(1, len(d)):
        total = total + t[:, j].unsqueeze(1) * rows[j]
    return total
