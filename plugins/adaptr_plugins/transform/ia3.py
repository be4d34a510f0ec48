"""(IA)3: W' = diag(l) W, b' = l ∘ b on keys and values; W' = W diag(l) on the feed-forward's output.  Liu et al. 2022,
arXiv:2205.05638.

`side` says which axis of the weight l scales: `out` for keys and values, `in` for the layer after the activation. Where
query, key and value are one layer, all of its output is scaled. Without `bias` the weight of an output is scaled alone,
as LyCORIS has it, and b' = b.

Choose it for few records and very many adapters: a vector a layer, merged without a trace, any mixture of them in one
batch. It wants a rate ten times LoRA's, and what can't be had by making features louder or softer it does not learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Row, Target, Transform, View, roles
from adaptr.adapter.tensors import Tensors, Wide
from adaptr.contract import Costs, Live
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    side: Literal["out", "in"] = "out"
    bias: bool = True


class IA3(Transform[Config]):
    name = "ia3"
    params = {"l": Param("{side}", init="ones")}
    kinds = frozenset({"linear", "linear_t", "conv1d", "conv2d", "conv3d"})
    targets = ("attn.k|attn.qkv", "attn.v|attn.qkv", "mlp.down")
    rowwise = True
    portable = True

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {"side": "in" if roles.has(target.path, "mlp.down") else "out", **values}

    def weight(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        kernel = (1 for _ in W.shape[2:])
        return W * (p["l"].view(-1, 1, *kernel) if cfg.side == "out" else p["l"].view(1, -1, *kernel)).to(W.dtype)

    def bias(self, b: Tensor, p: Live, cfg: Config) -> Tensor:
        return b * p["l"].to(b.dtype) if cfg.side == "out" and cfg.bias else b

    def forward(self, base: View, x: Tensor, p: Live, cfg: Config) -> Tensor:
        if cfg.side == "in":
            groups = x.shape[base.axis] // p["l"].numel()  # of a grouped convolution: each group has the same l
            given: Tensor = base(x * base.along(p["l"].repeat(groups)).to(x.dtype))
            return given
        y: Tensor = base(x)
        y, c = y * base.along(p["l"]).to(y.dtype), shift(base, p, cfg)
        return y if c is None else y + base.along(c).to(y.dtype)

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        if not target.is_linear:
            return None
        return Costs(input=True, once=target.shape[1]) if cfg.side == "in" else Costs(token=target.shape[0])

    def row(self, target: Target, base: View, p: Live) -> Row:
        cfg = self.config(target.config)
        return Row(into=p["l"]) if cfg.side == "in" else Row(gain=p["l"], shift=shift(base, Wide(p), cfg))

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        # where 1 + w (l - 1) is zero nothing can be recovered: the receipt's patch holds those elements
        factor = 1 + weight * (wide(p["l"]) - 1)
        inverse = Tensors({"l": 1 / factor.where(factor != 0, 1.0)})
        return self.view(merged, inverse, cfg, 1.0)


def shift(base: View, p: Live, cfg: Config) -> Tensor | None:
    """What makes good for a bias that is scaled with the output and should not be."""
    b = base.bias
    return None if cfg.bias or b is None else (1 - p["l"]) * b.to(p["l"].dtype)
