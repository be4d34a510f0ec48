"""VB-LoRA: W' = W + B A, with A and B of mixed vectors out of one bank for all layers.  Li et al. 2024,
arXiv:2405.15179.

Each piece of v numbers is Σ w_j bank_j over the k largest of its h logits, w their softmax: rows of A are in / v such
pieces, columns of B out / v. Which k these are has no gradient. Not the identity when fresh, as nothing starts at zero.
Where v is not said, it is the largest divisor of all sides up to 256.

Choose it where very many adapters are stored and VeRA's rank of hundreds is too slow: all layers mix their factors from
one bank. Which vectors are mixed has no gradient, so that it wants long training, and it is not the identity when
fresh.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, LowRank, Param, Target
from adaptr.contract import Live
from adaptr.errors import BadConfig
from adaptr.families.blocks import divisor

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    r: int = 4
    h: int = 256
    v: int = 256
    k: int = 2
    dropout: float = 0.0


class VBLoRA(Delta[Config]):
    name = "vblora"
    params = {
        "bank": Param("h v", init="uniform:0.02", shared=True),
        "A": Param("r cols h", init="normal:0.1"),
        "B": Param("rows r h", init="normal:0.1"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    identity = False
    small = {"r": 2, "h": 6, "v": 8}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        A, B = mixed(p["A"], p["bank"], cfg.k), mixed(p["B"], p["bank"], cfg.k)
        return LowRank(B.mT.flatten(0, 1), A.flatten(1))

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        if "v" in values:
            return values
        sides = math.gcd(*(side for place in places for side in place.shape))
        return {**values, "v": divisor("`vblora`: `v`", Config.v, sides, places[0].path)}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        out, into = target.shape
        if out % cfg.v or into % cfg.v:
            raise BadConfig(
                "`vblora`: `v`", got=cfg.v, want=f"a divisor of {out} and {into}, the sides of `{target.path}`"
            )
        if not 1 <= cfg.k <= cfg.h:
            raise BadConfig("`vblora`: `k`", got=cfg.k, want=f"from 1 to {cfg.h}, the vectors of the bank")
        return {"rows": out // cfg.v, "cols": into // cfg.v}


def mixed(logits: Tensor, bank: Tensor, k: int) -> Tensor:
    """(..., v) of logits (..., h) and a bank (h, v)."""
    top, at = logits.topk(k, dim=-1)
    return (top.softmax(-1).unsqueeze(-1) * bank[at]).sum(-2)
