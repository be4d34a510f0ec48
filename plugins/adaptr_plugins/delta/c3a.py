"""C3A: W' = W + D, D of circulant blocks of b by b.  Chen et al. 2024, arXiv:2407.19342.

Block (i, j) is D[p, q] = w[i, j, (q - p) mod b] / in. b is made a divisor of both sides of the layer: the largest up to
`b`. Not the identity when fresh: w is uniform in +-√(6 / (in + out)), as in the paper. PEFT with two adapters at work
gives the second one the first one's output; here both have the layer's input.

Choose it where a change of high rank should fit into few numbers and the fast Fourier transform is fast, as on a card.
Every block repeats one row, which fits some weights and not others, and it is not the identity when fresh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, Operator, Param, Target
from adaptr.algebra.dense import Dense
from adaptr.contract import Live
from adaptr.errors import BadConfig
from adaptr.families.blocks import divisor

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    b: int = 256


class C3A(Delta[Config]):
    name = "c3a"
    params = {"w": Param("rows cols b", init="uniform")}
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    identity = False
    portable = True
    small = {"b": 8}

    def delta(self, p: Live, cfg: Config) -> Operator:
        return Dense(p.derived("D", p.sources(1.0), lambda: circulant(p["w"])))

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "b": divisor("`c3a`: `b`", self.config(values).b, math.gcd(*target.shape), target.path)}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        out, into = target.shape
        if out % cfg.b or into % cfg.b:
            raise BadConfig(
                "`c3a`: `b`", got=cfg.b, want=f"a divisor of {out} and {into}, the sides of `{target.path}`"
            )
        return {"rows": out // cfg.b, "cols": into // cfg.b}

    def init_rule(self, param: str, target: Target) -> str:
        return f"uniform:{math.sqrt(6 / sum(target.shape))}"


def circulant(w: Tensor) -> Tensor:
    """D (out, in) of kernels w (out / b, in / b, b)."""
    import torch

    rows, cols, b = w.shape
    step = torch.arange(b, device=w.device)
    blocks = w[:, :, (step - step.unsqueeze(1)) % b]
    return blocks.transpose(1, 2).reshape(rows * b, cols * b) / (cols * b)
