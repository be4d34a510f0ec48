"""AdapterFusion: y = h + Σₙ sₙ V aₙ, s = softmaxₙ((Q h + b_q)ᵀ (K aₙ + b_k)), aₙ what adapter n would add to h.
Pfeiffer et al. 2021, arXiv:2005.00247.

Made over trained bottlenecks at the same places, which stay as they are; only Q, K and V learn. V starts near 1, so a
fresh fusion adds a mean of what its adapters add, and is not the identity. `penalty`: 0.01 Σ ‖1 - V‖².
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adaptr import Fusion, Param, Target, View

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Live
    from adaptr.host import Session


@dataclass(frozen=True)
class Config:
    experts: list[str] = field(default_factory=list)
    regularise: float = 0.01


class AdapterFusion(Fusion[Config]):
    name = "adapter-fusion"
    targets = ("ffn_out",)
    params = {
        "Q": Param("d d", init="normal:0.02"),
        "b_q": Param("d"),
        "K": Param("d d", init="normal:0.02"),
        "b_k": Param("d"),
        "V": Param("d d", init="custom"),
    }

    def combine(self, h: Tensor, x: Tensor, branches: Mapping[str, Tensor], p: Live, cfg: Config) -> Tensor:
        import torch
        from torch.nn.functional import linear

        a = torch.stack(list(branches.values()), -2)  # (..., n, d)
        scores = linear(a, p["K"], p["b_k"]) @ linear(h, p["Q"], p["b_q"])[..., None]
        s = scores[..., 0].softmax(-1)
        return h + (s[..., None] * linear(a, p["V"])).sum(-2)

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch

        one = torch.eye(target.shape[0], device=made["Q"].device)
        return {"V": one + 1e-6 * (1 - one)}

    def penalty(self, session: Session) -> Tensor | float:
        import torch

        V = [state["V"] for state in session.states.values()]
        return self.config(session.adapter.config).regularise * sum(
            ((torch.eye(len(v), device=v.device) - v) ** 2).sum() for v in V
        )
