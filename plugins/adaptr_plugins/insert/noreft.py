"""NoReFT: h' = h + Rᵀ (W h + b - R h) at the first and last tokens of the prompt, R any matrix.  Wu et al. 2024,
arXiv:2404.03592.

`loreft` without the rows of R orthonormal, which starts as a linear layer does ([M]).

Choose it where what `loreft` costs to make its basis in each step of training is too much; it learns a little less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.contract import Live
from adaptr_plugins.insert import _reft

if TYPE_CHECKING:
    from torch import Tensor


class NoReFT(_reft.Reft[_reft.Config]):
    name = "noreft"
    params = _reft.table("R", "W")

    def change(self, h: Tensor, p: Live, cfg: _reft.Config, suffix: str) -> Tensor:
        from torch.nn.functional import linear

        R = p[f"R{suffix}"]
        return (linear(h, p[f"W{suffix}"], p[f"b{suffix}"]) - linear(h, R)) @ R
