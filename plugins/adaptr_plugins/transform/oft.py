"""OFT: W' = W Rᵀ, R = (I + Q)(I - Q)⁻¹ block-diagonal and orthogonal, Q skew.  Qiu et al. 2023, arXiv:2306.07280.

The input is rotated in blocks of b: x becomes x R. Q is stored as the entries above its diagonal. `terms` of at least 4
takes R = I + 2Q + 2Q² + ... + Qⁿ⁻¹ instead of the inverse, which is nearly orthogonal for small Q (arXiv:2506.19847).
`share`: one block for all. With `side` out it is the outputs that are rotated, W' = R W, as LyCORIS has it, and the
bias is not; with `rescale` each output has a factor s besides, W' = diag(s) W Rᵀ. Strength scales Q and s - 1, so every
strength is a rotation. b is made a divisor of the layer's width: the largest up to b, or the next above it where only 1
is below and that is not nearer, as in PEFT. R is computed in fp32 or better.

Choose it where what the base knows must stay, as the subjects and styles of image models: features are turned, and no
length or angle between neurons changes. A solve in every step makes it slower than LoRA, and it can't make a feature
louder, unless with `rescale`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Target, Transform, View
from adaptr.contract import Live
from adaptr.contract.view import ALL
from adaptr.errors import BadConfig
from adaptr.precision import at_least, wide
from adaptr_plugins.transform._rotations import IN, OUT, blockwise, exactly, rotation, turned
from adaptr_plugins.transform.dora import nonzero, over_rows

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    b: int = 32
    terms: int = 0
    share: bool = False
    side: Literal["in", "out"] = "in"
    rescale: bool = False


class OFT(Transform[Config]):
    name = "oft"
    params = {"Q": Param("blocks skew"), "s": Param("out", init="ones", when="rescale")}
    kinds = frozenset({"linear", "linear_t", "conv1d", "conv2d", "conv3d"})
    targets = ("all-linear",)
    rowwise = True
    portable = True

    def config(self, values: Mapping[str, Any]) -> Config:
        cfg = super().config(values)
        if cfg.b < 2 or (cfg.terms and cfg.terms < 4):
            raise BadConfig(
                "`oft`: `b`", got=f"{cfg.b}, and `terms` {cfg.terms}", want="`b` at least 2, `terms` 0 or at least 4"
            )
        if cfg.share and cfg.side == OUT:
            raise BadConfig("`oft`: `share` is of blocks of inputs alone", hint="leave `share` or `side` out")
        return cfg

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "b": _divisor(target, self.config(values))}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        width = _width(target, cfg)
        if width % cfg.b:
            raise BadConfig("`oft`: `b`", got=cfg.b, want=f"a divisor of {width}, the width of `{target.path}`")
        return {"blocks": 1 if cfg.share else width // cfg.b, "skew": cfg.b * (cfg.b - 1) // 2}

    def by_rows(self, cfg: Config) -> bool:
        return cfg.side == IN

    def view(self, base: View, p: Live, cfg: Config, weight: float) -> View:
        def R() -> Tensor:
            # a live state keeps what is derived from its tensors
            return p.derived("R", (weight, p["Q"]), lambda: rotation(wide(p["Q"]) * weight, cfg.b, cfg.terms))

        def call(x: Tensor) -> Tensor:
            if base.axis != -1:  # outputs of groups have inputs of their own, so that even these turn as the weight
                assert base.op is not None
                return base.op(x, rows(ALL), base.bias)
            b, block = base.bias, R()
            y: Tensor = base(x if cfg.side == OUT else blockwise(at_least(x, block.dtype), block).to(x.dtype))
            if cfg.side == IN and "s" not in p:
                return y
            z = y if b is None else y - b
            z = z if cfg.side == IN else blockwise(at_least(z, block.dtype), block.mT)
            z = (z if "s" not in p else z * gain(p, weight)).to(y.dtype)
            return z if b is None else z + b

        turn: Callable[[Tensor], Tensor] = lambda W: turned(W, R(), cfg.side)
        if base.exact is not None:
            turn = exactly(rotation(p["Q"].double() * weight, cfg.b, cfg.terms), base.exact, cfg.side)

        def rows(s: slice) -> Tensor:
            made = turn(base.rows(s)) if self.by_rows(cfg) else turn(base.rows(ALL))[s]
            return scaled(made, p, weight, s)

        return base.then(call=call, rows=rows, parts=tuple(p[name] for name in p))

    def keep_whole(self, p: Live, cfg: Config, weight: float) -> dict[str, Tensor]:
        """The inverse rotation: solving is done otherwise on other machines."""
        return {"R": inverted(p, cfg, weight)}

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        """What a factor of zero has taken is lost: a receipt holds it."""

        @functools.cache
        def turn() -> Callable[[Tensor], Tensor]:
            if merged.exact is not None:
                return exactly(kept["R"], merged.exact, cfg.side)
            return lambda W: turned(W, inverted(p, cfg, weight), cfg.side)

        def rows(s: slice) -> Tensor:
            read = s if self.by_rows(cfg) else ALL
            W = merged.rows(read)
            W = W / over_rows(nonzero(gain(p, weight))[read], W).to(W.dtype) if "s" in p else W
            return turn()(W) if self.by_rows(cfg) else turn()(W)[s]

        return merged.then(rows=rows)


def inverted(p: Live, cfg: Config, weight: float) -> Tensor:
    """The inverse of R, not its transpose: a truncated series is only nearly orthogonal."""
    return rotation(p["Q"].double() * weight, cfg.b, cfg.terms).inverse()


def gain(p: Live, weight: float) -> Tensor:
    return 1 + weight * (wide(p["s"]) - 1)


def scaled(W: Tensor, p: Live, weight: float, s: slice = ALL) -> Tensor:
    """Rows `s` of a weight, by their factors where there are any."""
    return (W * over_rows(gain(p, weight)[s], W)).to(W.dtype) if "s" in p else W


def _divisor(target: Target, cfg: Config) -> int:
    """The size of blocks at a target. Raises `BadConfig` where the nearest is 1, which turns nothing."""
    width, wanted = _width(target, cfg), cfg.b
    below = [b for b in range(2, min(wanted, width) + 1) if width % b == 0]
    above = next((b for b in range(wanted + 1, width + 1) if width % b == 0), 0)
    if below:
        return below[-1]
    if not above or above - wanted >= wanted - 1:
        raise BadConfig(
            f"`oft`: no block of about {wanted} divides {width}, the width of `{target.path}`",
            hint=f"ask for `b`={above}, or leave that target out" if above else "leave that target out",
        )
    return above


def _width(target: Target, cfg: Config) -> int:
    """How many features are turned."""
    return target.shape[0] if cfg.side == OUT else math.prod(target.shape[1:])
