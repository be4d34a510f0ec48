"""QPiSSA: W' = Q(W - s B0 A0) + s B A, B0 A0 where B A begins: U_r S_r V_rᵀ of W.  Meng et al. 2024, arXiv:2404.02948.

PiSSA over a base in NF4. `times` as in the authors' code: beyond once, the triplets are of what the last Q left of W,
W - Q, and B0 A0 are taken out of W again. The first Q is PiSSA's residual in NF4. Fresh, it is W but for what is lost.

Choose it as PiSSA, where the base will be in four bits: it loses less than QLoRA does at the start. It saves no memory
in training here, as it is computed over the base as it was, which is decomposed `times` times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr_plugins.transform import _residual

if TYPE_CHECKING:
    from torch import Tensor


class QPiSSA(_residual.Residual[_residual.Config]):
    name = "qpissa"

    def first(self, W: Tensor, cfg: _residual.Config) -> _residual.Factors:
        left = W
        for _ in range(cfg.times):
            B, A = self.split(left, cfg)
            left = W - self.packed(W, B, A, cfg)
        return B, A, B, A
