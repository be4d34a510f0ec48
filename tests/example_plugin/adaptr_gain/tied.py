"""Tied-LoRA: W' = W + s diag(v) B diag(u) A, s = alpha / r, A and B learnt once for all layers.  Renduchintala et al.
2023, arXiv:2311.09578.

u (r) and v (out) are each layer's own. Fresh, A is He-uniform, B zero, u and v one. All layers are of one shape. The
paper's TL6; with `vectors=False` u and v stay away, its TL5.
"""

from __future__ import annotations

from dataclasses import dataclass

from adaptr import Delta, LowRank, Param
from adaptr.contract import Live


@dataclass(frozen=True)
class Config:
    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    vectors: bool = True


class TiedLoRA(Delta[Config]):
    name = "shared-pair"
    params = {
        "A": Param("r in", init="kaiming", shared=True),
        "B": Param("out r", init="zeros", shared=True),
        "u": Param("r", init="ones", when="vectors"),
        "v": Param("out", init="ones", when="vectors"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.qkv|attn.q",)
    portable = True

    def delta(self, p: Live, cfg: Config) -> LowRank:
        A, B, s = p["A"], p["B"], cfg.alpha / cfg.r
        return LowRank(p["v"][:, None] * B, p["u"][:, None] * A, s) if cfg.vectors else LowRank(B, A, s)
