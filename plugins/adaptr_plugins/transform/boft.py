"""BOFT: W' = diag(s) W Rᵀ, R = Bₘ ... B₁, Bᵢ = Pᵢ D Pᵢᵀ with D of blocks (I - S)(I + S)⁻¹.  Liu et al. 2024,
arXiv:2311.06243.

S = (Q - Qᵀ) / 2 of what is stored. Factor i mixes within 2ⁱ⁻¹ b features: Pᵢ puts together chunks of b/2 that lie so
far apart. The first mixes neighbours, as OFT does. A strength w takes w Q and 1 + w (s - 1): a rotation at any. With
`side` out it is the outputs that are rotated, W' = diag(s) R W, as LyCORIS has it, and the bias is not. PEFT without
its CUDA extension, as on a CPU, computes with m = 1 whatever is asked; its dropout of blocks is not here.

Choose it, as OFT, where the angles between neurons should stay, and with fewer numbers: several factors mix distant
features with small blocks. Each factor is a pass over the whole input, which makes it the slower of the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Target, Transform, View
from adaptr.contract import Live
from adaptr.contract.view import ALL
from adaptr.errors import BadConfig
from adaptr.precision import at_least, wide
from adaptr_plugins.transform._butterfly import beside, cayley, turned
from adaptr_plugins.transform._rotations import IN, OUT
from adaptr_plugins.transform.dora import nonzero, over_rows

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    b: int = 4
    n: int = 0
    m: int = 1
    side: Literal["in", "out"] = "in"


class BOFT(Transform[Config]):
    name = "boft"
    params = {"Q": Param("m n b b"), "s": Param("out", init="ones")}
    kinds = frozenset({"linear", "linear_t", "conv1d", "conv2d", "conv3d"})
    targets = ("all-linear",)
    least = {"b": 0, "n": 0}
    rowwise = True

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        """One of `b`, the size of blocks, and `n`, their number, follows from the other: `n` is taken where it is."""
        cfg = self.config(values)
        width = _width(target, cfg)
        b = width // cfg.n if cfg.n else cfg.b
        return {**values, "b": b, "n": width // max(b, 1)}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        width = _width(target, cfg)
        odd = cfg.m > 1 and (cfg.b % 2 or cfg.m > cfg.n.bit_length() or cfg.n % (1 << (cfg.m - 1)))
        if cfg.b < 2 or odd or (cfg.n * cfg.b != width and 0 not in target.shape):
            raise BadConfig(
                f"`boft`: {cfg.n} blocks of {cfg.b} with `m`={cfg.m} at `{target.path}`",
                want=f"{width} in all, and with several factors even blocks whose number 2^(m - 1) divides",
            )
        return {}

    def by_rows(self, cfg: Config) -> bool:
        return cfg.side == IN

    def view(self, base: View, p: Live, cfg: Config, weight: float) -> View:
        def scale() -> Tensor:
            return 1 + weight * (wide(p["s"]) - 1)

        def D() -> Tensor:
            return p.derived("D", (weight, p["Q"]), lambda: cayley(wide(p["Q"]) * weight))

        def rows(r: slice) -> Tensor:
            s = scale()
            W = base.rows(r if self.by_rows(cfg) else ALL)
            rotated = beside(at_least(W, s.dtype), D(), cfg.side)
            rotated = rotated if self.by_rows(cfg) else rotated[r]
            return (rotated * over_rows(s[r], W)).to(W.dtype)

        def call(x: Tensor) -> Tensor:
            b = base.bias
            if base.axis != -1:  # outputs of groups have inputs of their own, so that even these turn as the weight
                assert base.op is not None
                return base.op(x, rows(ALL), b)
            z = x if cfg.side == OUT else turned(at_least(x, D().dtype), D(), back=True).to(x.dtype)
            y: Tensor = base(z)
            z = y if b is None else y - b
            z = z if cfg.side == IN else turned(at_least(z, D().dtype), D())
            z = (z * scale().to(z.dtype)).to(y.dtype)
            return z if b is None else z + b

        return base.then(call=call, rows=rows, parts=tuple(p[n] for n in p))

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        """What a scale of zero has taken is lost: a receipt holds it."""

        def rows(r: slice) -> Tensor:
            read = r if self.by_rows(cfg) else ALL
            W, s = merged.rows(read), nonzero(1 + weight * (p["s"][read].double() - 1))
            made = beside(W.double() / over_rows(s, W), cayley(p["Q"].double() * weight), cfg.side, back=True)
            return (made if self.by_rows(cfg) else made[r]).to(W.dtype)

        return merged.then(rows=rows)


def _width(target: Target, cfg: Config) -> int:
    """How many features are turned."""
    return target.shape[0] if cfg.side == OUT else math.prod(target.shape[1:])
