"""KronA-Bres: y = h + s x (A ⊗ B) + c x, c a learned number for each place.  Edalati et al. 2022, arXiv:2212.10650.

As `krona-b` with a scaled residual of its own. c starts at zero, for the identity; what the paper starts it with is not
confirmed ([M]).

Choose it where `krona-b` should also weigh how much of its input passes by. It costs one number more. As it is
linear, it fails where `krona-b` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr import Param
from adaptr.contract import Live
from adaptr.precision import wide
from adaptr_plugins.insert.krona_b import Config, KronAB

if TYPE_CHECKING:
    from torch import Tensor


class KronABres(KronAB):
    name = "krona-bres"
    params = {**KronAB.params, "c": Param("1")}

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        return super().branch(h, x, p, cfg) + (wide(p["c"]) * x).to(h.dtype)
