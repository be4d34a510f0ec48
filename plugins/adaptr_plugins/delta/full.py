"""Full fine-tuning: W' = W + D, D dense, the task vector.  Ilharco et al. 2022, arXiv:2212.04089.

Subtracted, negated and added as any other delta; stored in the dtype of the subtraction, fp32 unless cast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, Dense, Param

if TYPE_CHECKING:
    from torch import Tensor


class Full(Delta):
    name = "full"
    params = {"D": Param("*e out in *k"), "b": Param("out", when="bias")}
    targets = ("all-linear",)
    as_stored = True

    @dataclass(frozen=True)
    class Config:
        bias: bool = False

    def delta(self, p: Mapping[str, Tensor], cfg: Any) -> Dense:
        return Dense(p["D"])

    def delta_bias(self, p: Mapping[str, Tensor], cfg: Any) -> Tensor | None:
        return p["b"] if cfg.bias else None
