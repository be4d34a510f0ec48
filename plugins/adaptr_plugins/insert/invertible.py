"""Invertible adapters: (e₁, e₂) becomes (e₁ + F(e₂), e₂ + G(o₁)) at the embeddings, and back before the output head.
Pfeiffer et al. 2020, arXiv:2005.00052.

o₁ is the new e₁; F and G are two linear layers with an `activation` between, of half the width to a `reduction` of it.
One pair of them in both places, so that what is read and what is said is in one language. Without a head, as in
training a task on top of it, there is no way back. It has no strength, as half of an inverse is the inverse of no half.
Weights start as a normal of 0.02: not the identity for the layers between; with `init="zero_up"` it is. In encoders it
is behind positions and norm.

Choose it, in `mad-x`, where the words of a language are strange to the base. It costs two small networks for each token
read and each token that is scored; it can't be merged, and alone it does little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr import Insert, Param, Target
from adaptr.contract import Costs, Live, Mount
from adaptr.errors import BadConfig, Unsupported
from adaptr.families.insert import activation, inner

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter


@dataclass(frozen=True)
class Config:
    reduction: int = 2
    activation: Literal["relu", "gelu", "gelu_new", "silu", "tanh"] = "relu"
    init: Literal["normal", "zero_up"] = "normal"


class Invertible(Insert[Config]):
    name = "invertible"
    params = {
        f"{side}_{name}": Param(axes, init="normal:0.02" if name in "DU" else "zeros")
        for side in "FG"
        for name, axes in {"D": "inner half", "b": "inner", "U": "half inner", "c": "half"}.items()
    }
    targets = ("embeddings",)
    identity = False
    averages = False
    least = {"reduction": 1}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        half = target.shape[0] // 2
        if target.shape[0] % 2 or half % cfg.reduction:
            raise BadConfig(
                f"`{self.name}`: `reduction`", got=cfg.reduction, want=f"a divisor of half of {target.shape[0]}"
            )
        return {"half": half, "inner": half // cfg.reduction}

    def init_rule(self, param: str, target: Target) -> str:
        zero = param.endswith("_U") and target.config["init"] == "zero_up"
        return "zeros" if zero else super().init_rule(param, target)

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        """At the embeddings, and, with the same tensors, before the head where the model has one."""
        if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            raise Unsupported(
                f"`{self.name}` is of models with one text, and an encoder and a decoder read two",
                hint="choose `pfeiffer`",
            )
        from adaptr.sites import site

        heads = site("head").find(model, "")
        return [
            *(Mount(path, "output") for path in adapter.targets),
            *(Mount(head, "head", shared=(path,)) for head in heads for path in adapter.targets),
        ]

    def costs(self, target: Target, cfg: Config) -> Costs:
        """In both places."""
        half = target.shape[0] // 2
        width = half // cfg.reduction
        return Costs(token=2 * (3 * half + 2 * inner(cfg.activation) * width), flops=16 * half * width)

    def check_weight(self, weight: float) -> None:
        super().check_weight(weight)
        if weight not in {0.0, 1.0}:
            raise Unsupported(
                f"`{self.name}` has no strength but 0 and 1: {weight:g} of an inverse is not the inverse of it",
                hint="leave the weight out",
            )

    def output(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        import torch

        one, two = h.chunk(2, -1)
        one = one + _network("F", two, p, cfg)
        return torch.cat([one, two + _network("G", one, p, cfg)], -1)

    def input(self, x: Tensor, p: Live, cfg: Config) -> Tensor:
        """The way back."""
        import torch

        one, two = x.chunk(2, -1)
        two = two - _network("G", one, p, cfg)
        return torch.cat([one - _network("F", two, p, cfg), two], -1)


def _network(side: str, x: Tensor, p: Live, cfg: Config) -> Tensor:
    from torch.nn.functional import linear

    inside = activation(cfg.activation)(linear(x, p[f"{side}_D"], p[f"{side}_b"]))
    return linear(inside, p[f"{side}_U"], p[f"{side}_c"])
