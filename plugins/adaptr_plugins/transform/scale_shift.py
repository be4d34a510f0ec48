"""Scale and shift: W' = diag(s) W, b' = s o b + t, an s and a t for every linear layer.  Lian et al. 2022,
arXiv:2210.08823.

y = s (W x + b) + t, with s one and t zero at first. Layers without a bias are scaled alone, so that it can be merged,
unless `shift` is always: then it can't be merged there. SSF has this behind norms as well, which `ln-tuning` beside it
is; that it has both at all of these places is not confirmed. LLaMA-Adapter v2 has it at every layer, always.

Choose it where features are right and of the wrong size or centre, as for another kind of picture or the manner of
answers: two vectors a layer, merged without a trace. It can't turn one feature into another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Target, Transform, View
from adaptr.contract import Costs, Live
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    shift: Literal["biased", "always", "never"] = "biased"


class ScaleShift(Transform[Config]):
    name = "scale-shift"
    params = {"s": Param("out", init="ones"), "t": Param("out", when="shift=always")}
    kinds = frozenset({"linear", "linear_t"})
    targets = ("all-linear",)
    rowwise = True
    portable = True

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("shift", "biased") != "biased":
            return values
        has = model.get_submodule(target.path)._parameters.get("bias") is not None
        return {**values, "shift": "always" if has else "never"}

    def weight(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        return W * p["s"].view(-1, 1).to(W.dtype)

    def bias(self, b: Tensor, p: Live, cfg: Config) -> Tensor:
        scaled = b * p["s"].to(b.dtype)
        return scaled + p["t"].to(b.dtype) if "t" in p else scaled

    def forward(self, base: View, x: Tensor, p: Live, cfg: Config) -> Tensor:
        y: Tensor = base(x)
        y = y * base.along(p["s"]).to(y.dtype)
        return y + base.along(p["t"]).to(y.dtype) if "t" in p else y

    def view(self, base: View, p: Live, cfg: Config, weight: float) -> View:
        made = super().view(base, p, cfg, weight)
        return made if base.bias is not None or "t" not in p else made.then(bias=lambda: weight * wide(p["t"]))

    def costs(self, target: Target, cfg: Config) -> Costs:
        return Costs(token=target.shape[0])

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        # where 1 + w (s - 1) is zero nothing can be recovered: the receipt's patch holds those elements
        factor = 1 + weight * (wide(p["s"]) - 1)
        gain = factor.where(factor != 0, 1.0)

        def rows(s: slice) -> Tensor:
            return merged.rows(s) / gain[s].view(-1, 1)

        def bias() -> Tensor | None:
            if merged.bias is None:
                return None
            return (wide(merged.bias) - (weight * wide(p["t"]) if "t" in p else 0)) / gain

        return merged.then(rows=rows, bias=bias)
