"""PHM adapters: y = h + g(h D + b_d) U + b_u, D = Σᵢ Aᵢ ⊗ Bᵢ and U likewise, i to n.  Karimi Mahabadi, Henderson and
Ruder 2021, arXiv:2106.04647.

Parametrised hypercomplex layers after attention and feed-forward: a bottleneck with an n-th of its numbers. A starts as
a normal of 0.01, B as Glorot's, so that a fresh adapter is near the identity, not exactly. The paper trains the base's
norms with it (`also=["norm"]`), and takes n = 12 here.

Choose it to see what `compacter` gives up by sharing: it is the same without that, and larger. It can't be merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr import Param
from adaptr.contract import Live
from adaptr_plugins.insert._phm import Config, Phm

if TYPE_CHECKING:
    from torch import Tensor


class PHM(Phm[Config]):
    name = "phm"
    params = {
        "A_d": Param("n n n", init="normal:0.01"),
        "B_d": Param("n d_n m_n", init="uniform"),
        "b_d": Param("m"),
        "A_u": Param("n n n", init="normal:0.01"),
        "B_u": Param("n m_n d_n", init="uniform"),
        "b_u": Param("d"),
    }
    targets = ("attn_out", "ffn_out")
    small = {"m": 8}

    def rule(self, p: Live, side: str) -> tuple[Tensor, Tensor]:
        return p[f"A_{side}"], p[f"B_{side}"]
