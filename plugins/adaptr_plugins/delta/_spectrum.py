"""What methods have in common that train coefficients at fixed places of a transformed weight.

The places are those that PEFT draws, the first `n` of torch's permutation from `loc_seed`: the same in all layers of
one shape. torch does not promise that stream for ever, so the places are stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr import Delta, Operator, Param, Target, View
from adaptr.algebra.dense import Dense
from adaptr.contract import Live
from adaptr.contract.settings import C
from adaptr.errors import InputError, phrases

if TYPE_CHECKING:
    from torch import Tensor, nn


class Spectral(Delta[C]):
    """`image(c, i, cfg)`: D (rows, cols) of the coefficients c (n,) at the flat places i (n,)."""

    params = {"c": Param("n", init="normal:1"), "i": Param("n", init="custom", trains=False, whole=True)}
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    small = {"n": 20, "s": 10.0}
    sizes = {"rows": 0, "cols": 1}

    def image(self, c: Tensor, i: Tensor, cfg: C) -> Tensor:
        raise NotImplementedError

    def delta(self, p: Live, cfg: C) -> Operator:
        def image() -> Tensor:
            require_places(self.name, p["i"], sizes(cfg))
            return self.image(p["c"], p["i"], cfg)

        return Dense(p.derived("D", p.sources(1.0), image))

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        rows, cols = target.shape
        n = self.axes(target, self.config(values))["n"]
        return {**values, "n": n, "rows": rows, "cols": cols}

    def axes(self, target: Target, cfg: C) -> dict[str, int]:
        return {"n": min(vars(cfg)["n"], math.prod(target.shape))}

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch

        n = len(made["c"])
        if made["c"].is_meta:
            return {"i": torch.empty(n, dtype=torch.int64, device="meta")}
        return {"i": places(target.config["loc_seed"], target.shape, n)}


def sizes(cfg: object) -> tuple[int, int]:
    """The rows and columns of the layer that a configuration is for."""
    said = vars(cfg)
    return said["rows"], said["cols"]


def places(seed: int, shape: tuple[int, ...], n: int) -> Tensor:
    """`n` different flat places (n,) in a weight of this shape, in the order in which PEFT's coefficients have them."""
    import torch

    return torch.randperm(math.prod(shape), generator=torch.Generator().manual_seed(seed % 2**63))[:n]


def require_places(name: str, i: Tensor, shape: tuple[int, int]) -> None:
    """Raises `InputError` for places outside the weight; not while compiling, nor where looking holds up a device."""
    import torch

    if i.device.type != "cpu" or not len(i) or torch.compiler.is_compiling():
        return
    if i.dtype != torch.int64 or i.min() < 0 or i.max() >= math.prod(shape):
        raise InputError(
            f"`{name}`: the places `i`", verb="are", got="out of range",
            want=f"whole numbers below {math.prod(shape)}", hint=phrases.AGAIN,
        )  # fmt: skip
