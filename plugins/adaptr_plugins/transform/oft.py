"""OFT: W' = W Rᵀ, R = (I + Q)(I - Q)⁻¹ block-diagonal and orthogonal, Q skew.  Qiu et al. 2023, arXiv:2306.07280.

The input is rotated in blocks of b: x becomes x R. Q is stored as the entries above its diagonal. `terms` of at least 4
takes R = I + 2Q + 2Q² + ... + Qⁿ⁻¹ instead of the inverse, which is nearly orthogonal for small Q (arXiv:2506.19847).
`share`: one block for all. Strength scales Q, so every strength is a rotation. b is made a divisor of the layer's
width: the largest up to b, or the next above it where only 1 is below and that is not nearer, as in PEFT. R is computed
in fp32 or better.

Choose it where what the base knows must stay, as the subjects and styles of image models: features are turned, and no
length or angle between neurons changes. A solve in every step makes it slower than LoRA, and it can't make a feature
louder.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Param, Target, Transform, View
from adaptr.contract import Live
from adaptr.errors import BadConfig
from adaptr.precision import at_least, wide, widest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    b: int = 32
    terms: int = 0
    share: bool = False


class OFT(Transform[Config]):
    name = "oft"
    params = {"Q": Param("blocks skew")}
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
        return cfg

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "b": _divisor(target, self.config(values).b)}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        width = _width(target)
        if width % cfg.b:
            raise BadConfig("`oft`: `b`", got=cfg.b, want=f"a divisor of {width}, the width of `{target.path}`")
        return {"blocks": 1 if cfg.share else width // cfg.b, "skew": cfg.b * (cfg.b - 1) // 2}

    def view(self, base: View, p: Live, cfg: Config, weight: float) -> View:
        def R() -> Tensor:
            # a live state keeps what is derived from its tensors
            make = lambda: rotation(wide(p["Q"]) * weight, cfg)
            return p.derived("R", (weight, p["Q"]), make)

        def call(x: Tensor) -> Tensor:
            if base.axis == -1:
                block = R()
                y: Tensor = base(blockwise(at_least(x, block.dtype), block).to(x.dtype))
                return y
            assert base.op is not None
            return base.op(x, turned(base.weight, R()), base.bias)

        turn: Callable[[Tensor], Tensor] = lambda W: turned(W, R())
        if base.exact is not None:
            turn = exactly(rotation(p["Q"].double() * weight, cfg), base.exact)
        return base.then(call=call, rows=lambda s: turn(base.rows(s)), parts=(p["Q"],))

    def keep_whole(self, p: Live, cfg: Config, weight: float) -> dict[str, Tensor]:
        """The inverse rotation: solving is done otherwise on other machines."""
        return {"R": inverted(p, cfg, weight)}

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        dtype = merged.exact
        if dtype is None:
            return merged.then(rows=lambda s: turned(merged.rows(s), inverted(p, cfg, weight)))
        turn = functools.cache(lambda: exactly(kept["R"], dtype))
        return merged.then(rows=lambda s: turn()(merged.rows(s)))


def inverted(p: Live, cfg: Config, weight: float) -> Tensor:
    """The inverse of R, not its transpose: a truncated series is only nearly orthogonal."""
    return rotation(p["Q"].double() * weight, cfg).inverse()


def exactly(R: Tensor, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """W to W Rᵀ over all of in*k, with the same bits for the same R on every machine."""
    from adaptr.algebra import exact

    b, blocks = R.shape[-1], exact.right(R.mT, dtype)

    def turn(W: Tensor) -> Tensor:
        parts = W.flatten(1).view(len(W), -1, b).transpose(0, 1)
        return exact.times(parts, blocks, dtype).transpose(0, 1).reshape(W.shape)

    return turn


def rotation(Q: Tensor, cfg: Config) -> Tensor:
    """R (blocks, b, b) from the entries of Q above the diagonal, (blocks, b (b - 1) / 2)."""
    import torch

    b = cfg.b
    i, j = torch.triu_indices(b, b, 1, device=Q.device)
    upper = Q.new_zeros(len(Q), b, b).index_put((torch.arange(len(Q), device=Q.device).unsqueeze(1), i, j), Q)
    S, one = upper - upper.mT, torch.eye(b, dtype=Q.dtype, device=Q.device)
    if not cfg.terms:
        exact: Tensor = torch.linalg.solve(one - S, one + S, left=False)
        return exact
    R, power = one + 2 * S, S
    for _ in range(cfg.terms - 3):
        power = power @ S
        R = R + 2 * power
    return R + power @ S


def blockwise(x: Tensor, R: Tensor) -> Tensor:
    """x (..., width) times the block-diagonal R (blocks, b, b), or one block for all.

    A product of matrices for each block: of vectors for each row, R would be copied as often as there are rows.
    """
    b = R.shape[-1]
    parts = x.reshape(-1, x.shape[-1] // b, b).transpose(0, 1)
    return (parts @ R).transpose(0, 1).reshape(x.shape)


def turned(W: Tensor, R: Tensor) -> Tensor:
    """W Rᵀ over all of in*k, in the dtype of W."""
    dtype = widest(W.dtype, R.dtype)
    return blockwise(W.flatten(1).to(dtype), R.mT.to(dtype)).view(W.shape).to(W.dtype)


def _divisor(target: Target, wanted: int) -> int:
    """The size of blocks at a target. Raises `BadConfig` where the nearest is 1, which turns nothing."""
    width = _width(target)
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


def _width(target: Target) -> int:
    return math.prod(target.shape[1:])
