"""DEFT: W' = W - Q Tᵀ W + s Q R: what W gives in r directions is taken out, and something learnt put there.  DEFT 2025,
NeurIPS (authors and arXiv id not confirmed).

`project`: relu has Q = P and T = relu(P), qr has Q = T orthonormal in the space of P. s is alpha / r, or 1 for an alpha
of 0. R starts as Tᵀ W / s, so that a fresh adapter is the identity up to rounding. With `para` there is no R, and a
fresh adapter takes something out (PaRa). The bias is not projected. As R is near Tᵀ W, an adapter means little on
another base.

Choose it where what a layer gives in some directions should be replaced, not added to, as in teaching an image model a
concept. It is as large as a LoRA of its rank, and what is taken out can be lost for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Target, View
from adaptr.adapter.tensors import Wide
from adaptr.contract import Live
from adaptr.families.init import unmade
from adaptr.precision import wide
from adaptr_plugins.transform._inward import Inward

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    r: int = 8
    alpha: float = 0.0
    project: Literal["relu", "qr"] = "relu"
    para: bool = False
    dropout: float = 0.0


class DEFT(Inward[Config]):
    name = "deft"
    params = {"P": Param("out r", init="normal:0.02", joint=True), "R": Param("r in", init="custom", unless="para")}
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    small = {"r": 2}

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "r": min(self.config(values).r, target.shape[0])}

    def writes(self, p: Live, cfg: Config) -> Tensor:
        return directions(p["P"], cfg)[0]

    def reads(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        taken = directions(p["P"], cfg)[1].mT @ W
        return -taken if cfg.para else scale(cfg) * p["R"] - taken

    def forward(self, base: View, x: Tensor, p: Live, cfg: Config) -> Tensor:
        """From the output, without reading W."""
        from torch.nn.functional import dropout

        own = Wide(p)
        y: Tensor = base(x)
        Q, T = directions(own["P"], cfg)
        bare = y.to(Q.dtype) if base.bias is None else y.to(Q.dtype) - wide(base.bias)
        z = -bare @ T
        if not cfg.para:
            z = z + scale(cfg) * dropout(x, cfg.dropout, p.training).to(Q.dtype) @ own["R"].mT
        return y + (z @ Q.mT).to(y.dtype)

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        cfg = self.config(target.config)
        if cfg.para or made["P"].is_meta:
            return unmade(self.shapes(target), made)
        return {"R": (directions(made["P"], cfg)[1].mT @ wide(base.weight) / scale(cfg)).float()}


def scale(cfg: Config) -> float:
    return cfg.alpha / cfg.r if cfg.alpha else 1.0


def directions(P: Tensor, cfg: Config) -> tuple[Tensor, Tensor]:
    """Q and T (out, r)."""
    import torch

    if cfg.project == "relu":
        return P, P.relu()
    Q = torch.linalg.qr(P).Q
    return Q, Q
