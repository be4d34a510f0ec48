"""Residual adapters in series: W' = W + A W, b' = b + A b, a convolution 1 x 1 behind each layer.  Rebuffi, Bilen and
Vedaldi 2017, arXiv:1705.08045.

y' = y + A y of the output y, over its channels; A starts at zero, for the identity. The paper's has a norm over the
batch before A, y + A BN(y): with its statistics at rest that is another A and a shift, which the norm behind takes up,
so that it is left out here and the whole is one linear layer, merged exactly. Norms over batches are each task's:
`adaptr train` trains those of the base with it unless `also` says something else; in Python say `also=["norm"]`. Behind
convolutions of 3 x 3 where a model has some, and else (a ViT) behind the layers that end attention and feed-forward.

Choose it for networks that should see many kinds of images, where each task may turn what a layer says but not what it
looks at: `residual` is beside the kernel, and costs nothing more. A has the square of a layer's outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr import Param, Target, Transform, View
from adaptr.contract import Costs, Live

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    pass


class ResidualSeries(Transform[Config]):
    name = "residual-series"
    params = {"A": Param("out out")}
    kinds = frozenset({"conv2d", "linear", "linear_t"})
    wants = "convolutions of 3 x 3 and linear layers"
    recipe: ClassVar = {"also": ("norm",)}

    def usual(self, model: nn.Module, config: Mapping[str, Any]) -> str | Sequence[str]:
        from adaptr import targets

        every = (targets.describe(path, module) for path, module in model.named_modules())
        convolves = any(one is not None and self.accepts(model, one) and not one.is_linear for one in every)
        return ("type:conv2d",) if convolves else ("attn.o", "mlp.down")

    def accepts(self, model: nn.Module, target: Target) -> bool:
        return target.is_linear or target.shape[2:] == (3, 3)

    def weight(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        return W + (p["A"].to(W.dtype) @ W.flatten(1)).view_as(W)

    def bias(self, b: Tensor, p: Live, cfg: Config) -> Tensor:
        return b + p["A"].to(b.dtype) @ b

    def forward(self, base: View, x: Tensor, p: Live, cfg: Config) -> Tensor:
        from torch.nn.functional import linear

        y: Tensor = base(x)
        channels = y.movedim(base.axis, -1)
        return y + linear(channels, p["A"].to(y.dtype)).movedim(-1, base.axis)

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        return Costs(token=target.shape[0], flops=2 * target.shape[0] ** 2) if target.is_linear else None
