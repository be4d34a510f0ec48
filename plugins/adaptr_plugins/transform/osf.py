"""OSF: W' = Σ over the k largest singular triplets of W + U diag(S) V, the rest of W, which alone is trained.  Nayak et
al. 2025, arXiv:2504.07097.

U, S and V start as the other triplets. In training no gradient of U and V goes into the directions that are kept, so
that what these do stays; what an optimiser makes of that, with momentum by element or decay, may go there all the same.
`k`: half of the smaller side where it is 0. What is kept is made of the weight below, and not stored: an adapter is as
large as a fine-tuned model, and of one base.

Choose it for learning one task after another without losing what the large directions of the weights do. It costs what
full fine-tuning costs, in training and in storage, and a decomposition of each weight before the first call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Param, Target, Transform, View
from adaptr.adapter.tensors import Wide
from adaptr.contract import Live
from adaptr.errors import BadConfig
from adaptr.families.init import unmade
from adaptr.precision import wide
from adaptr_plugins.delta._begun import leading

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    k: int = 0


class OSF(Transform[Config]):
    name = "osf"
    params = {
        "U": Param("out low", init="custom", joint=True),
        "S": Param("low", init="custom"),
        "V": Param("low in", init="custom"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("all-linear",)
    rate = 1e-4

    def weight(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        return assembled(kept(W, cfg.k), p)

    def forward(self, base: View, x: Tensor, p: Live, cfg: Config) -> Tensor:
        assert base.op is not None
        frame = p.derived("kept", (*base.sources(), cfg.k), lambda: kept(wide(base.weight.detach()), cfg.k))
        return base.op(x, assembled(frame, Wide(p)).to(base.weight.dtype), base.bias)

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "k": self.config(values).k or min(target.shape) // 2}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        side = min(target.shape)
        if not 0 < cfg.k < side:
            raise BadConfig("`osf`: `k`", got=cfg.k, want=f"from 1 to below {side} at `{target.path}`")
        return {"low": side - cfg.k}

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if base.weight.is_meta:
            return unmade(self.shapes(target), made)
        (U, S, Vh), k = leading(wide(base.weight), min(target.shape)), self.config(target.config).k
        return {name: one.float().contiguous() for name, one in {"U": U[:, k:], "S": S[k:], "V": Vh[k:]}.items()}


def kept(W: Tensor, k: int) -> Tensor:
    """The k largest singular triplets of W, one above the other: U, V and the values, (out + in + 1, k)."""
    import torch

    U, S, Vh = leading(W, k)
    return torch.cat([U, Vh.mT, S.unsqueeze(0)])


def assembled(frame: Tensor, p: Live) -> Tensor:
    """W' of what is kept and what is trained."""
    out, into = p["U"].shape[0], p["V"].shape[1]
    left, right, values = frame[:out], frame[out : out + into], frame[-1]
    U, V = p["U"], p["V"]
    if p.training:
        U, V = beside(U, left), beside(V.mT, right).mT
    return (left * values) @ right.mT + (U * p["S"]) @ V


def beside(x: Tensor, directions: Tensor) -> Tensor:
    """x, to which no gradient comes in these orthonormal directions (its columns)."""
    free = x - directions @ (directions.mT @ x)
    found: Tensor = free + (x - free).detach()
    return found
