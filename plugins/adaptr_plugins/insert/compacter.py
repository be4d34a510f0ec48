"""Compacter: y = h + g(h D + b_d) U + b_u, D = Σᵢ Aᵢ ⊗ (sᵢ tᵢ) and U likewise, A of all.  Karimi Mahabadi, Henderson
and Ruder 2021, arXiv:2106.04647.

After attention and feed-forward. The n rules Aᵢ (n, n) are one set for all places and both projections, and the rest is
of rank `r`. A starts as a normal of 1e-4, s and t as Glorot's: near the identity, not exactly; in half precision its
products would vanish, so tensors are kept in fp32. The paper trains the base's norms with it (`also=["norm"]`).

Choose it where an adapter should be as small as a bottleneck can be: 0.05 % of a T5, for what `houlsby` does with
thirty times that. It can't be merged, learns slower, and wants a larger rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from adaptr import Param
from adaptr.contract import Live
from adaptr_plugins.insert import _phm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config(_phm.Config):
    r: int = 1


class Compacter(_phm.Phm[Config]):
    name = "compacter"
    params = {
        "A": Param("n n n", init="normal:0.0001", shared=True),
        "s_d": Param("n d_n r", init="uniform"),
        "t_d": Param("n r m_n", init="uniform"),
        "b_d": Param("m"),
        "s_u": Param("n m_n r", init="uniform"),
        "t_u": Param("n r d_n", init="uniform"),
        "b_u": Param("d"),
    }
    targets: ClassVar[tuple[str, ...]] = ("attn_out", "ffn_out")
    rate = 3e-3
    small = {"m": 8}

    def rule(self, p: Live, side: str) -> tuple[Tensor, Tensor]:
        return p["A"], p[f"s_{side}"] @ p[f"t_{side}"]
