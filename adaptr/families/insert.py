"""Insert methods: y = h + w (f(h, x) - h), h the layer's output. The author supplies `params` and `branch(h, x, p,
cfg)`, what is added to h; or `forward(h, x, p, cfg)`, f itself, where it is no sum.

Targets are places, not weights: modules whose output is replaced. Where the adapter reads something else than its own
target's input, `reads` in the target's configuration is the path of the module whose input it takes. What asks nothing
of the forward that it is in is one row of a batch, whatever it computes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol

from adaptr.adapter import kinds
from adaptr.contract import Capabilities, Live, View
from adaptr.contract import mounts as places
from adaptr.contract.settings import C
from adaptr.families.base import Method

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Target
    from adaptr.families.row import Apart


class Insert(Method[C]):
    """A small network at a place in the model."""

    family: ClassVar[str] = "insert"
    formulas: ClassVar[tuple[str, ...]] = ("branch|forward|output",)
    averages: ClassVar[bool] = True
    kinds: ClassVar[frozenset[str]] = frozenset({kinds.PLACE})
    unmergeable: ClassVar[str] = "non-linear"
    possible: ClassVar[str] = "keep it attached; concatenate it with adapters at the same places"

    def forward(self, h: Tensor, x: Tensor, p: Live, cfg: C) -> Tensor:
        """The new output: how the branch is combined with the old one."""
        return h + self.branch(h, x, p, cfg)

    def output(self, h: Tensor, x: Tensor, p: Live, cfg: C) -> Tensor:
        return self.forward(h, x, p, cfg)

    # ------------------------------------------------------------ as a row of a batch

    @property
    def alone(self) -> bool:
        """Whether what it does to a row follows from that row alone, where nothing learns."""
        return not (self.context or self.supplies("mounts"))

    def capabilities(self) -> Capabilities:
        return dataclasses.replace(super().capabilities(), row=self.alone)

    def row(self, target: Target, base: View, p: Live) -> Apart:
        if not self.alone:
            raise self.rowless()
        from adaptr.families.row import Apart, Step

        cfg = self.config(target.config)
        return Apart(
            (Step(places.of(target), {name: p[name] for name in p}, lambda h, x, p: self.output(h, x, p, cfg)),)
        )


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The non-linearity of that name: relu, gelu, gelu_new, silu or tanh."""
    from functools import partial

    from torch.nn import functional

    if name == "gelu_new":
        return partial(functional.gelu, approximate="tanh")
    found: Callable[[Tensor], Tensor] = getattr(functional, name)
    return found


def inner(name: str) -> int:
    """How many values a unit keeps for the backward: its sum and what comes of it, or the latter alone."""
    return 1 if name in {"relu", "tanh"} else 2


class Reads(Protocol):
    """What says what a network behind a block reads: see `read`."""

    @property
    def residual(self) -> bool: ...
    @property
    def calls(self) -> str: ...


def read(h: Tensor, x: Tensor, p: Live, cfg: Reads) -> Tensor:
    """h, the output of a block; with `residual` its sum with x, what goes around it; behind the norm `calls`."""
    z = h + x if cfg.residual else h
    return p.call(cfg.calls, z) if cfg.calls else z


def bottleneck(z: Tensor, p: Live, act: str, rate: float = 0.0) -> Tensor:
    """U g(D z + b_d) + b_u for z (..., d), D (m, d), U (d, m). `rate`: dropout before U while training."""
    from torch.nn.functional import dropout, linear

    inner = activation(act)(linear(z, p["D"], p["b_d"]))
    return linear(dropout(inner, rate, p.training), p["U"], p["b_u"])
