"""LoRA-FA: W' = W + s B A, A random and frozen.  Zhang et al. 2023, arXiv:2308.03303.

Only B learns, so that of a layer's input nothing but A x, of r numbers a token, is kept for the backward. A is stored.
With `corrected` the gradient of B is multiplied by (A Aᵀ)⁻¹ / s², so that what a step does to the weight is nearest to
what full training would do: the paper's second version, and PEFT's optimiser of that name, which does it behind the
clipping of gradients and not before.

Choose it where the memory of activations is what keeps a LoRA from fitting: a layer's input is not kept. Half of the
factors is random for good, so that it wants a higher rank or more steps for the same loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import LowRank, Param, Target
from adaptr.contract import Costs, Live
from adaptr_plugins.delta import _factors

if TYPE_CHECKING:
    from torch import Tensor

#: On the diagonal of A Aᵀ, as in PEFT.
DAMPING = 1e-8


@dataclass(frozen=True)
class Config(_factors.Config):
    corrected: bool = True


class LoRAFA(_factors.Plain[Config]):
    name = "lora-fa"
    params = {**_factors.Plain.params, "A": Param("*e r in *k", init="kaiming", trains=False)}
    kinds = _factors.Plain.kinds - {"embedding"}
    small = {"r": 2, "alpha": 2.0}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        A, B = p["A"], p["B"]
        if cfg.corrected and B.requires_grad:
            B = _turned(B, A, self.scale(cfg))
        return LowRank(B, A, self.scale(cfg))

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        if not target.is_linear or cfg.dropout:
            return None
        return Costs(token=cfg.r, flops=2 * cfg.r * sum(target.shape))


def _turned(B: Tensor, A: Tensor, scale: float) -> Tensor:
    """B, whose gradient (*e, out, r) is multiplied by (A Aᵀ + d I)⁻¹ / s² where it arrives."""
    import torch

    flat = 2 if LowRank(B, A).experts else 1
    with torch.no_grad():
        rows = A.flatten(flat)
        gram = rows @ rows.mT
        inverse = torch.linalg.pinv(gram + DAMPING * torch.eye(gram.shape[-1]).to(gram), hermitian=True) / scale**2
    through = B.view_as(B)
    through.register_hook(lambda g: (g.flatten(flat) @ inverse).view_as(g))  # type: ignore[no-untyped-call]
    return through
