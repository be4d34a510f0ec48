"""BOFT: W' = diag(s) W Rᵀ, R = Bₘ ... B₁, Bᵢ = Pᵢ D Pᵢᵀ with D of blocks (I - S)(I + S)⁻¹.  Liu et al. 2024,
arXiv:2311.06243.

S = (Q - Qᵀ) / 2 of what is stored. Factor i mixes within 2ⁱ⁻¹ b features: Pᵢ puts together chunks of b/2 that lie so
far apart. The first mixes neighbours, as OFT does. A strength w takes w Q and 1 + w (s - 1): a rotation at any.
PEFT without its CUDA extension, as on a CPU, computes with m = 1 whatever is asked; its dropout of blocks is not here.

Choose it, as OFT, where the angles between neurons should stay, and with fewer numbers: several factors mix distant
features with small blocks. Each factor is a pass over the whole input, which makes it the slower of the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Param, Target, Transform, View
from adaptr.contract import Live
from adaptr.errors import BadConfig
from adaptr.precision import at_least, wide
from adaptr_plugins.transform.dora import nonzero, over_rows
from adaptr_plugins.transform.oft import blockwise

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    b: int = 4
    n: int = 0
    m: int = 1


class BOFT(Transform[Config]):
    name = "boft"
    params = {"Q": Param("m n b b"), "s": Param("out", init="ones")}
    kinds = frozenset({"linear", "linear_t", "conv1d", "conv2d", "conv3d"})
    targets = ("all-linear",)
    least = {"b": 0, "n": 0}
    rowwise = True

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        """One of `b`, the size of blocks, and `n`, their number, follows from the other: `n` is taken where it is."""
        cfg, width = self.config(values), math.prod(target.shape[1:])
        b = width // cfg.n if cfg.n else cfg.b
        return {**values, "b": b, "n": width // max(b, 1)}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        width = math.prod(target.shape[1:])
        odd = cfg.m > 1 and (cfg.b % 2 or cfg.n % 2 ** (cfg.m - 1))
        if cfg.b < 2 or odd or (cfg.n * cfg.b != width and 0 not in target.shape):
            raise BadConfig(
                f"`boft`: {cfg.n} blocks of {cfg.b} with `m`={cfg.m} at `{target.path}`",
                want=f"{width} in all, and with several factors even blocks whose number 2^(m - 1) divides",
            )
        return {}

    def view(self, base: View, p: Live, cfg: Config, weight: float) -> View:
        def scale() -> Tensor:
            return 1 + weight * (wide(p["s"]) - 1)

        def D() -> Tensor:
            return p.derived("D", (weight, p["Q"]), lambda: cayley(wide(p["Q"]) * weight))

        def merged(W: Tensor, s: Tensor) -> Tensor:
            rotated = turned(at_least(W, s.dtype).flatten(1), D()).view(W.shape)
            return (rotated * over_rows(s, W)).to(W.dtype)

        def call(x: Tensor) -> Tensor:
            b = base.bias
            if base.axis != -1:
                assert base.op is not None
                return base.op(x, merged(base.weight, scale()), b)
            z = at_least(x, D().dtype)
            y: Tensor = base(turned(z, D(), back=True).to(x.dtype))
            s = scale().to(y.dtype)
            return y * s if b is None else (y - b) * s + b

        return base.then(call=call, rows=lambda r: merged(base.rows(r), scale()[r]), parts=tuple(p[n] for n in p))

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        """What a scale of zero has taken is lost: a receipt holds it."""

        def rows(r: slice) -> Tensor:
            W, s = merged.rows(r), nonzero(1 + weight * (p["s"][r].double() - 1))
            D = cayley(p["Q"].double() * weight)
            return turned((W.double() / over_rows(s, W)).flatten(1), D, back=True).view(W.shape).to(W.dtype)

        return merged.then(rows=rows)


def cayley(Q: Tensor) -> Tensor:
    """(I - S)(I + S)⁻¹ of the skew part S of each block."""
    import torch

    S, one = (Q - Q.mT) / 2, torch.eye(Q.shape[-1], dtype=Q.dtype, device=Q.device)
    found: Tensor = torch.linalg.solve(one + S, one - S, left=False)
    return found


def turned(x: Tensor, D: Tensor, back: bool = False) -> Tensor:
    """x Rᵀ of rows x (..., width) for blocks D (m, n, b, b), or x R."""
    numbers = range(len(D))
    for i in reversed(numbers) if back else numbers:
        x = moved(x, 2, 2**i, D) if i else x  # the first leaves all where it is
        x = blockwise(x, D[i] if back else D[i].mT)
        x = moved(x, 2**i, 2, D) if i else x
    return x


def moved(x: Tensor, far: int, near: int, D: Tensor) -> Tensor:
    """x with its chunks of b/2, which count `far` times `near`, counted the other way round: x P, and back x Pᵀ."""
    chunks = x.reshape(*x.shape[:-1], -1, far, near, D.shape[-1] // 2)
    return chunks.transpose(-3, -2).reshape(x.shape)
