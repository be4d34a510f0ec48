"""Insert methods: y = h + w (f(h, x) - h), h the layer's output. The author supplies `params` and `forward(h, x, p,
cfg)`.

Targets are places, not weights: modules whose output is replaced. Where the adapter reads something else than its own
target's input, `reads` in the target's configuration is the path of the module whose input it takes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr import kinds
from adaptr.contract import REASONS, C
from adaptr.errors import NotMergeable
from adaptr.families.base import Method
from adaptr.live import Live
from adaptr.precision import Wide, at_least
from adaptr.view import View

if TYPE_CHECKING:
    from torch import Tensor


class Insert(Method[C]):
    """A small network at a place in the model."""

    family: ClassVar[str] = "insert"
    formulas: ClassVar[tuple[str, ...]] = ("forward|view",)
    averages: ClassVar[bool] = True
    kinds: ClassVar[frozenset[str]] = frozenset({kinds.PLACE})
    unmergeable: ClassVar[str] = "non-linear"
    possible: ClassVar[str] = "keep it attached; concatenate it with adapters at the same places"

    def forward(self, h: Tensor, x: Tensor, p: Live, cfg: C) -> Tensor:
        """The new output, from the layer's output h (..., d) and input x."""
        raise NotImplementedError

    def view(self, base: View, p: Live, cfg: C, weight: float) -> View:
        def call(*args: Any, **kwargs: Any) -> Any:
            output = base(*args, **kwargs)
            h = first_of(output)
            x = args[0] if args else next(iter(kwargs.values()))
            taken = p.taken() if getattr(cfg, "reads", "") else x
            inner = at_least(h, next(iter(p[name] for name in p)).dtype)
            y = self.forward(inner, taken.to(inner.dtype), Wide(p, inner.dtype), cfg)
            return with_first(output, (y if weight == 1.0 else inner + weight * (y - inner)).to(h.dtype))

        def rows(s: slice) -> Tensor:
            raise NotMergeable(self.name, REASONS[self.unmergeable], self.possible)

        return base.then(call=call, rows=rows)


def first_of(output: Any) -> Tensor:
    """What a module gives: its output, or the first of several (an attention's weights and cache come behind)."""
    if isinstance(output, Mapping):
        output = next(iter(output.values()))
    elif isinstance(output, tuple | list):
        output = output[0]
    return output  # type: ignore[no-any-return]


def with_first(output: Any, y: Tensor) -> Any:
    """`output` with `y` in the place of its first tensor."""
    if isinstance(output, Mapping):
        made = copy.copy(output)
        made[next(iter(output))] = y  # type: ignore[index]
        return made
    if isinstance(output, tuple | list):
        several = [y, *output[1:]]
        return type(output)(*several) if hasattr(output, "_fields") else type(output)(several)
    return y


def activation(name: str) -> Any:
    """The non-linearity of that name: relu, gelu, gelu_new, silu or tanh."""
    from functools import partial

    from torch.nn import functional

    if name == "gelu_new":
        return partial(functional.gelu, approximate="tanh")
    return getattr(functional, name)


def bottleneck(z: Tensor, p: Live, act: str, rate: float = 0.0) -> Tensor:
    """U g(D z + b_d) + b_u for z (..., d), D (m, d), U (d, m). `rate`: dropout before U while training."""
    from torch.nn.functional import dropout, linear

    inner = activation(act)(linear(z, p["D"], p["b_d"]))
    return linear(dropout(inner, rate, p.training), p["U"], p["b_u"])
