"""HRA: W' = W H, H = Π (I - 2 uᵢ uᵢᵀ), a product of r reflections, uᵢ of length 1.  Yuan et al. 2024, arXiv:2405.17484.

H is I - U K⁻¹ Uᵀ with K = I/2 + striu(UᵀU), so that no matrix of the layer's width is formed: the input x becomes H x.
Fresh, neighbours in U are equal and undo each other, so r is even. `gs` makes the columns of U orthonormal, K = I/2,
which is not the identity fresh. `orthogonal` is λ of the penalty λ Σ ‖I - UᵀU‖² of the columns at length 1 ([M]). A
strength w is (1 - w) W + w W H. A column of zeros reflects nothing.

Choose it where a change should keep lengths and angles as OFT does, at a chosen number of reflections that may meet all
features. It wants an even rank, and what it adds is known only beside the base, so that composing needs that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Param, Row, Target, Transform, View
from adaptr.contract import Live
from adaptr.errors import BadConfig, Unsupported
from adaptr.precision import at_least, wide

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from adaptr.host import Session


@dataclass(frozen=True)
class Config:
    r: int = 8
    gs: bool = False
    orthogonal: float = 0.0


class HRA(Transform[Config]):
    name = "hra"
    params = {"U": Param("width r", init="kaiming")}
    kinds = frozenset({"linear", "linear_t", "conv1d", "conv2d", "conv3d"})
    targets = ("all-linear",)
    rowwise = True

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"width": math.prod(target.shape[1:])}

    def init(self, target: Target, base: View, generator: Generator | None) -> dict[str, Tensor]:
        cfg, U = self.config(target.config), super().init(target, base, generator)["U"]
        if cfg.r % 2 and not cfg.gs:
            raise BadConfig("`hra`: `r`", got=cfg.r, want="an even number, as reflections start in pairs")
        return {"U": U if cfg.gs else U[:, ::2].repeat_interleave(2, 1)}

    def weight(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        U, K = factors(p["U"], cfg)
        flat = at_least(W, U.dtype).flatten(1)
        return (flat - solved(flat @ U, K) @ U.mT).view(W.shape)

    def forward(self, base: View, x: Tensor, p: Live, cfg: Config) -> Tensor:
        if base.axis != -1:
            return super().forward(base, x, p, cfg)
        U, K = factors(wide(p["U"]), cfg)
        z = at_least(x, U.dtype)
        y: Tensor = base((z - solved(z @ U, K.mT, upper=False) @ U.mT).to(x.dtype))
        return y

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        """W' (I - w U K⁻¹ Uᵀ)⁻¹. Raises `Unsupported` where a strength has made it singular, as 0.5 of a reflection."""
        import torch

        def rows(s: slice) -> Tensor:
            W, (U, K) = merged.rows(s), factors(p["U"].double(), cfg)
            back, wrong = torch.linalg.inv_ex(K / weight - U.mT @ U)
            if wrong or not bool(back.isfinite().all()):
                raise Unsupported(f"`hra` at the strength {weight} has no inverse here", hint="keep the base's tensors")
            flat: Tensor = W.double().flatten(1)
            found: Tensor = flat + flat @ U @ back @ U.mT
            return found.view(W.shape).to(W.dtype)

        return merged.then(rows=rows)

    def row(self, target: Target, base: View, p: Live) -> Row:
        U, K = factors(wide(p["U"]), self.config(target.config))
        return Row(U.mT, -solved(wide(base.weight) @ U, K))

    def penalty(self, session: Session) -> Tensor | float:
        import torch

        cfg = self.config(session.adapter.config)
        every = [normal(wide(state["U"])) for state in session.states.values()] if cfg.orthogonal else []
        off = [torch.eye(cfg.r, device=U.device) - U.mT @ U for U in every]
        return cfg.orthogonal * sum((one**2).sum() for one in off)


def normal(U: Tensor) -> Tensor:
    """The columns at length 1; those of zeros stay."""
    lengths = U.norm(dim=0)
    found: Tensor = U / lengths.where(lengths != 0, 1.0)
    return found


def factors(U: Tensor, cfg: Config) -> tuple[Tensor, Tensor]:
    """U (width, r) of columns of length 1 and the triangular K (r, r), with H = I - U K⁻¹ Uᵀ."""
    import torch

    half = torch.eye(U.shape[1], dtype=U.dtype, device=U.device) / 2
    if cfg.gs:
        return torch.linalg.qr(U).Q, half
    U = normal(U)
    K: Tensor = half + (U.mT @ U).triu(1)
    return U, K


def solved(X: Tensor, K: Tensor, upper: bool = True) -> Tensor:
    """X K⁻¹."""
    import torch

    found: Tensor = torch.linalg.solve_triangular(K, X, upper=upper, left=False)
    return found
