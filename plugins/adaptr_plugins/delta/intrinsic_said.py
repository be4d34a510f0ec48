"""Intrinsic SAID: W' = W + λ P z, z one vector for all weights, λ one number for each.  Aghajanyan et al. 2020,
arXiv:2012.13255.

As `did`, with a number that says how much each weight moves. Of the `d` numbers trained these are one for each weight,
as in the authors' code (a layer in the paper), and z is the rest; that code leaves out one more. Fresh, z is zero and
λ is 1.

Choose it over `did` where weights should not all move alike: the paper reaches as far with fewer numbers. It costs
the same, and fails where `did` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptr import Param, Target
from adaptr.contract import Live
from adaptr_plugins.delta.did import DID, Config

if TYPE_CHECKING:
    from torch import Tensor


class IntrinsicSAID(DID):
    name = "intrinsic-said"
    params = {**DID.params, "l": Param("1", init="ones")}

    def own(self, places: Sequence[Target]) -> int:
        return len(places)

    def projected(self, p: Live, cfg: Config) -> Tensor:
        return p["l"] * super().projected(p, cfg)
