"""DiReFT: h' = h + W2ᵀ (W1 h + b) at the first and last tokens of the prompt.  Wu et al. 2024, arXiv:2404.03592.

`loreft` without its basis and without what it takes away: LoRA on hidden states, at chosen tokens. W2 and W1 start as
linear layers do ([M]), so that a fresh one is not the identity.

Choose it before `loreft` where training must be fast: the paper found it a little worse, and it has no basis to make.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.contract import Live
from adaptr_plugins.insert import _reft

if TYPE_CHECKING:
    from torch import Tensor


class DiReFT(_reft.Reft[_reft.Config]):
    name = "direft"
    params = _reft.table("W2", "W1")

    def change(self, h: Tensor, p: Live, cfg: _reft.Config, suffix: str) -> Tensor:
        from torch.nn.functional import linear

        return linear(h, p[f"W1{suffix}"], p[f"b{suffix}"]) @ p[f"W2{suffix}"]
