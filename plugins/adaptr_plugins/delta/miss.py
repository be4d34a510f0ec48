"""MiSS: W' = W + D, D[o, i] = M[i mod r, o]: one shared matrix for all pieces of the input.  Kang 2024,
arXiv:2409.15371.

y gets the sum of the pieces of x, r long each and the last filled with zeros, times M. With `m`, M is (r, m) and its
columns are repeated. Rank r: A' is the identity, again and again, and B' is Mᵀ. No scale. r is at most the width of the
input. The mode "bat" of PEFT's is the method `bone`. (That the paper's later versions have other authors is not
confirmed.)

Choose it where LoRA's cost is too high: one matrix a layer, and a sum of pieces of the input instead of a first
product. All pieces share that matrix, and it has no scale, so that only the rate says how fast it learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, LowRank, Param, Target
from adaptr.contract import Live
from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Config:
    r: int = 64
    m: int = 0
    dropout: float = 0.0
    rows: int = 1
    cols: int = 1


class MiSS(Delta[Config]):
    name = "miss"
    params = {"M": Param("r width")}
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    portable = True
    small = {"r": 5}
    sizes = {"rows": 0, "cols": 1}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        import torch

        M = p["M"]
        one = torch.eye(cfg.r, device=M.device, dtype=M.dtype)
        A = one.repeat(1, -(-cfg.cols // cfg.r))[:, : cfg.cols]
        return LowRank(M.repeat(1, cfg.rows // M.shape[1]).mT, A)

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        rows, cols = target.shape
        return {**values, "r": min(self.config(values).r, cols), "rows": rows, "cols": cols}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if cfg.m < 0 or (cfg.m and target.shape[0] % cfg.m):
            raise BadConfig("`miss`: `m`", got=cfg.m, want=f"0, or a divisor of {target.shape[0]} at `{target.path}`")
        return {"width": cfg.m or target.shape[0]}
