"""PEANuT: W' = W + s B zᵀ, z a small network of W itself: the change is not linear in the weight.  Zhong et al. 2024,
arXiv:2410.01870.

z (in, r) is f(Wᵀ Aᵀ), through `depth` encoders z ← f(z Eᵢᵀ) and as many decoders z ← f(z Dᵢᵀ) + what the encoder at the
other end was given. A is (r, out), so that the width of a layer is in no shape.

Choose it where a LoRA of some rank falls short and no more may be stored: the change follows what the weight has. Each
step of training goes through the weight, which takes memory as it is wide; it has no delta of its own, so that it
composes only in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr import Param, Target
from adaptr.contract import Live
from adaptr.errors import BadConfig
from adaptr.families.insert import activation
from adaptr_plugins.transform._inward import Inward

if TYPE_CHECKING:
    from torch import Tensor

#: How many encoders there can be.
DEEPEST = 8


@dataclass(frozen=True)
class Config:
    r: int = 32
    depth: int = 0
    s: float = 1.0
    activation: Literal["relu", "gelu", "gelu_new", "silu", "tanh"] = "relu"


class PEANuT(Inward[Config]):
    name = "peanut"
    params = {
        "A": Param("r out", init="kaiming"),
        "B": Param("out r", joint=True),
        **{
            f"{letter}{n}": Param("r r", init="kaiming", when=f"depth>{n}")
            for letter in ("E", "D")
            for n in range(DEEPEST)
        },
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    small = {"r": 3, "depth": 1}

    def writes(self, p: Live, cfg: Config) -> Tensor:
        return p["B"]

    def reads(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        f = activation(cfg.activation)
        z, given = f(W.mT @ p["A"].mT), []
        for n in range(cfg.depth):
            given.append(z)
            z = f(z @ p[f"E{n}"].mT)
        for n in range(cfg.depth):
            z = f(z @ p[f"D{n}"].mT) + given.pop()
        return cfg.s * z.mT

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if not 0 <= cfg.depth <= DEEPEST:
            raise BadConfig("`peanut`: `depth`", got=cfg.depth, want=f"from 0 to {DEEPEST}")
        return {}
