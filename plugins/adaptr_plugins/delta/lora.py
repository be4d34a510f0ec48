"""LoRA: W' = W + s B A, s = alpha / r, or alpha / sqrt(r) with `rslora`.  Hu et al. 2021, arXiv:2106.09685.

On look-up tables the roles of the factors are swapped at the start (A zero, B normal), so that the factor that is
looked up is the zero one. Expert stacks have one pair for each expert. `rslora`: Kalajdzievski 2023, arXiv:2312.03732.

Choose it first: every tool and server knows it, it merges, composes, and costs nothing once it is merged. It falls
behind full fine-tuning where much new has to be learnt at once; then raise the rank (`rslora` beyond 32) before you
change the method, and search the rate before the rank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr.contract.capabilities import LOW_RANK
from adaptr_plugins.delta._factors import Config, Plain

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr import Operator


class LoRA(Plain[Config]):
    name = "lora"
    forms = frozenset({LOW_RANK})
    default_for = frozenset({LOW_RANK})

    def written(self, op: Operator | None, bias: Tensor | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Scales go into B: alpha is the rank."""
        assert op is not None
        low = op.low_rank()
        r = low.A.shape[1 if low.experts else 0]
        A, B = low.A.to(low.dtype), low.B.to(low.dtype)
        tensors = {"A": A.contiguous(), "B": (B if low.scale == 1.0 else B * low.scale).contiguous()}
        config = {"r": r, "alpha": float(r), "bias": bias is not None}
        return config, tensors if bias is None else {**tensors, "b": bias}
