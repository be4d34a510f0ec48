"""KaSA: W' = W - B0 A0 + s B diag(g) A, B0 A0 the r smallest singular triplets of W.  Wang et al. 2024,
arXiv:2412.06071.

What the weight hardly does is taken out of it as noise, so that a fresh adapter is not the identity: it leaves the
truncated weight. B0 and A0 are stored, and what it does is right on the base as it was. g begins normal, B at zero. In
training β Σ g² + γ (‖BᵀB - I‖ + ‖AAᵀ - I‖), of each target, is added to the loss.

Choose it where the smallest directions of the weight are taken for noise and should make room. It changes the base
before the first step, which is harm where that was no noise, stores what it takes away, and has two weights of
penalties to choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Delta, LowRank, Param, Target, View
from adaptr.contract import Costs, Live
from adaptr.errors import BadConfig
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.host import Session


@dataclass(frozen=True)
class Config:
    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False
    beta: float = 1e-4
    gamma: float = 1e-3


class KaSA(Delta[Config]):
    name = "kasa"
    params = {
        "A": Param("r in", init="kaiming"),
        "B": Param("out r"),
        "g": Param("r", init="normal:1"),
        "A0": Param("r in", init="custom", trains=False),
        "B0": Param("out r", init="custom", trains=False),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("all-linear",)
    portable = True
    identity = False
    small = {"r": 2, "alpha": 2.0}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        import torch

        scale = cfg.alpha / (cfg.r**0.5 if cfg.rslora else cfg.r)
        return LowRank(torch.cat([p["B"] * (p["g"] * scale), -p["B0"]], 1), torch.cat([p["A"], p["A0"]]))

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if cfg.r >= min(target.shape):
            raise BadConfig(
                f"`kasa` at `{target.path}`: `r`", got=cfg.r, want=f"below {min(target.shape)}, the rank of its weight"
            )
        return {}

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch

        W, r = base.weight, self.config(target.config).r
        if W.is_meta:
            shapes = self.shapes(target)
            return {name: torch.empty(shapes[name], device="meta") for name in ("A0", "B0")}
        A0, B0 = smallest(W, r)
        return {"A0": A0, "B0": B0}

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        both, r = sum(target.shape), 2 * cfg.r
        return None if cfg.dropout else Costs(input=True, token=r, once=r * both, flops=2 * r * both)

    def penalty(self, session: Session) -> Tensor | float:
        import torch

        def far(M: Tensor) -> Tensor:
            found: Tensor = (M @ M.mT - torch.eye(len(M), device=M.device, dtype=M.dtype)).norm()
            return found

        cfg, total = self.config(session.adapter.config), torch.zeros(())
        for state in session.states.values():
            A, B, g = (wide(state[name]) for name in "ABg")
            total = total.to(g.device) + cfg.beta * (g * g).sum() + cfg.gamma * (far(B.mT) + far(A))
        return total


def smallest(W: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """A0 (r, in) and B0 (out, r), whose product is the r smallest singular triplets of W, fp32."""
    import torch

    U, S, Vh = torch.linalg.svd(W.detach().float(), full_matrices=False)
    return Vh[-r:].contiguous(), (U[:, -r:] * S[-r:]).contiguous()
