"""PSOFT: W' = W + s B (R - I) A, s B A the r largest singular directions of W, R = diag(b) C diag(a), C a turn.  Wu et
al. 2025, arXiv:2505.11235.

C is (I + Q)(I - Q)⁻¹, Q skew and stored as the entries above its diagonal; `terms` of at least 4 takes
I + 2Q + 2Q² + ... + Qⁿ⁻¹ instead, with Q no longer than `longest` (0: as it is). Without `orthogonal`, C is any matrix.
`start`: psoft has the singular values in B, pissa their roots in A and B. A and B are frozen and stored. `svd`: how
they are found; lowrank is torch's, drawn from `svd_seed`. s is alpha / r. Where r is not said, it is 32 or all of a
narrower layer's directions.

Choose it where only the directions that a layer uses most should be turned, by a few hundred numbers a layer. The
frozen factors, as large as a LoRA, are stored with it, and outside of these directions nothing can change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Delta, LowRank, Param, Target, View
from adaptr.contract import Live
from adaptr.errors import BadConfig
from adaptr.families.init import unmade
from adaptr_plugins.delta._begun import halved, leading
from adaptr_plugins.transform._rotations import rotation

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    r: int = 32
    alpha: float = 32.0
    orthogonal: bool = True
    a: bool = True
    b: bool = True
    terms: int = 0
    longest: float = 0.0
    start: Literal["psoft", "pissa"] = "psoft"
    svd: Literal["full", "lowrank"] = "full"
    rounds: int = 10
    svd_seed: int = 0
    dropout: float = 0.0


class PSOFT(Delta[Config]):
    name = "psoft"
    params = {
        "A": Param("r in", init="custom", trains=False),
        "B": Param("out r", init="custom", trains=False),
        "Q": Param("skew", when="orthogonal"),
        "C": Param("r r", init="custom", unless="orthogonal"),
        "a": Param("r", init="ones", when="a"),
        "b": Param("r", init="ones", when="b"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    least = {"r": 2, "terms": 0}
    small = {"r": 4, "alpha": 8.0}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        import torch

        R = turned(p["Q"], cfg) if cfg.orthogonal else p["C"]
        R = p["b"][:, None] * R if cfg.b else R
        R = R * p["a"] if cfg.a else R
        one = torch.eye(cfg.r, dtype=R.dtype, device=R.device)
        return LowRank(p["B"] @ (R - one), p["A"], cfg.alpha / cfg.r)

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        r = min(Config.r, *target.shape)
        return values if "r" in values else {"alpha": float(r), **values, "r": r}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        most = min((side for side in target.shape if side), default=cfg.r)
        if cfg.r > most or not cfg.alpha > 0 or 0 < cfg.terms < 4:
            raise BadConfig(
                "`psoft`: `r`, `alpha` and `terms`",
                got=f"{cfg.r}, {cfg.alpha} and {cfg.terms}",
                want=f"a rank up to {most} at `{target.path}`, an alpha above 0, and 0 or at least 4 terms",
            )
        return {"skew": cfg.r * (cfg.r - 1) // 2}

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch

        cfg = self.config(target.config)
        if base.weight.is_meta:
            return unmade(self.shapes(target), made)
        A, B = frame(base.weight, cfg)
        return {"A": A, "B": B, **({} if cfg.orthogonal else {"C": torch.eye(cfg.r)})}


def frame(W: Tensor, cfg: Config) -> tuple[Tensor, Tensor]:
    """A (r, in) and B (out, r) of W (out, in), fp32."""
    import torch

    if cfg.svd == "full":
        U, S, Vh = leading(W.float(), cfg.r)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cfg.svd_seed)
            U, S, V = torch.svd_lowrank(W.float(), q=cfg.r, niter=cfg.rounds)
        Vh = V.mT
    scale = cfg.alpha / cfg.r
    B, A = halved(U, S, Vh, scale) if cfg.start == "pissa" else (U * (S / scale), Vh)
    return A.contiguous(), B.contiguous()


def turned(Q: Tensor, cfg: Config) -> Tensor:
    """C (r, r) of the entries of Q above the diagonal."""
    if cfg.longest and cfg.terms:
        Q = Q * (cfg.longest / (2**0.5 * Q.norm() + 1e-12)).clamp(max=1.0)
    return rotation(Q.unsqueeze(0), cfg.r, cfg.terms)[0]
