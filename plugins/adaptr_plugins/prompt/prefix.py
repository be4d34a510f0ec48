"""Prefix tuning: softmax over [K; K(x)], values [V; V(x)] in every attention.  Li and Liang 2021, arXiv:2101.00190.

K and V (h, tokens, d) are trained flat, without the reparametrisation, and are keys as after the position encoding.
`position_offset` says how they were trained: `none` (text at positions 0, 1, ...) or `shift` (through the cache, text
from position `tokens` on); both are applied as what they are. Not the identity when fresh: columns that are attended to
change what is attended.

Choose it to steer generation with the weights untouched, with thousands of records and time: it learns slowly, wants a
high rate, and gains little on small models. Its rows take places in the attention of every layer; it can't be merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr import Param, Prefix, Target
from adaptr.contract import Costs, Live
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    tokens: int = 10
    position_offset: Literal["none", "shift"] = "none"


class PrefixTuning(Prefix[Config]):
    name = "prefix"
    small = {"tokens": 3}
    params = {"K": Param("h tokens d", init="normal:1"), "V": Param("h tokens d", init="normal:1")}

    def keys_values(self, p: Live, cfg: Config) -> tuple[Tensor, Tensor]:
        return wide(p["K"]), p["V"]

    def costs(self, target: Target, cfg: Config) -> Costs:
        return Costs(columns=cfg.tokens)
