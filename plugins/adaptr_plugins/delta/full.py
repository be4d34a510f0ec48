"""Full fine-tuning: W' = W + D, D dense, the task vector.  Ilharco et al. 2022, arXiv:2212.04089.

Subtracted, negated and added as any other delta, of matrices and of norms; stored in the dtype of the subtraction, fp32
unless cast.

Choose it where much has to be learnt that no low rank holds, and there is memory for gradients and optimiser states of
the whole weight. It wants a tenth of LoRA's rate or less, its file is as large as the layers, and of few records it
learns them by heart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, Dense, Operator, Param
from adaptr.adapter import kinds
from adaptr.algebra.dense import formed
from adaptr.contract import Live
from adaptr.contract.capabilities import DENSE

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    bias: bool = False


class Full(Delta[Config]):
    name = "full"
    params = {"D": Param("*e out *i *k"), "b": Param("out", when="bias")}
    kinds = kinds.WEIGHTED
    targets = ("all-linear",)
    as_stored = True
    forms = frozenset({DENSE})
    default_for = frozenset({DENSE})

    def delta(self, p: Live, cfg: Config) -> Dense:
        return Dense(p["D"])

    def written(self, op: Operator | None, bias: Tensor | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        assert op is not None
        tensors = {"D": formed(op)}
        return {"bias": bias is not None}, tensors if bias is None else {**tensors, "b": bias}

    def delta_bias(self, p: Live, cfg: Config) -> Tensor | None:
        return p["b"] if cfg.bias else None
