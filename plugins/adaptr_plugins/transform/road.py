"""RoAd: W' = R W, b' = R b, R turning pairs of outputs and scaling them.  Liao and Monz 2024, arXiv:2409.00119.

In groups of g, output p of the first half goes with p + g / 2: y_p' = c_p y_p - s_p y_q and y_q' = c_q y_q + s_q y_p,
c = alpha cos(theta), s = alpha sin(theta). `variant` 1 has one angle and one alpha for a pair, 2 for an output, 4 for
each entry of R. Strength w scales theta and alpha - 1. g is made an even divisor of the outputs: the largest up to `g`.

Choose it for very many adapters in one batch: outputs are turned in pairs, element by element, with about two numbers
an output. What can't be had by turning and scaling outputs it does not learn; it wants a higher rate than LoRA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Target, Transform, View
from adaptr.contract import Live
from adaptr.contract.view import ALL
from adaptr.errors import BadConfig
from adaptr.families.blocks import divisor
from adaptr.precision import at_least, wide

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.contract.view import Call


@dataclass(frozen=True)
class Config:
    variant: Literal[1, 2, 4] = 1
    g: int = 64


class RoAd(Transform[Config]):
    name = "road"
    params = {"theta": Param("angles"), "alpha": Param("angles", init="ones")}
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    small = {"g": 8}

    def view(self, base: View, p: Live, cfg: Config, weight: float) -> View:
        def both() -> tuple[Tensor, Tensor]:
            return entries(wide(p["theta"]) * weight, 1 + weight * (wide(p["alpha"]) - 1), cfg)

        def call(x: Tensor) -> Tensor:
            y: Tensor = base(x)
            c, s = both()
            return turned(at_least(y, c.dtype), c, s).to(y.dtype)

        return through(base, both, call).then(parts=(p["theta"], p["alpha"]))

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        """Of what is singular nothing can be recovered: the receipt's patch holds those elements."""

        def both() -> tuple[Tensor, Tensor]:
            c, s = entries(p["theta"].double() * weight, 1 + weight * (p["alpha"].double() - 1), cfg)
            size = c * c.flip(1) + s * s.flip(1)
            size = size.where(size != 0, 1.0)
            return c.flip(1) / size, -s / size

        return through(merged, both, merged.call)

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "g": divisor("`road`: `g`", self.config(values).g, target.shape[0], target.path, 2)}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        out = target.shape[0]
        if cfg.g < 2 or cfg.g % 2 or out % cfg.g:
            raise BadConfig("`road`: `g`", got=cfg.g, want=f"an even divisor of {out} at `{target.path}`")
        return {"angles": out * cfg.variant // 2}


def entries(theta: Tensor, alpha: Tensor, cfg: Config) -> tuple[Tensor, Tensor]:
    """c and s of all outputs (out / g, 2, g / 2), from angles as `variant` has them."""
    cos, sin = alpha * theta.cos(), alpha * theta.sin()
    if cfg.variant == 1:
        both = (v.view(-1, 1, cfg.g // 2).expand(-1, 2, -1) for v in (cos, sin))
    elif cfg.variant == 2:
        both = (v.view(-1, 2, cfg.g // 2) for v in (cos, sin))
    else:
        both = (v.view(-1, 2, 2, cfg.g // 2)[:, i] for i, v in enumerate((cos, sin)))
    c, s = both
    return c, s


def turned(y: Tensor, c: Tensor, s: Tensor) -> Tensor:
    """R y for y (..., out)."""
    import torch

    halves = y.reshape(*y.shape[:-1], *c.shape)
    sign = torch.tensor([[-1.0], [1.0]], dtype=c.dtype, device=c.device)
    found: Tensor = c * halves + sign * s * halves.flip(-2)
    return found.flatten(-3)


def through(base: View, both: Callable[[], tuple[Tensor, Tensor]], call: Call) -> View:
    """The layer whose outputs are turned by c and s, `both()`."""

    def rows(part: slice) -> Tensor:
        read = base.rows(ALL)
        c, s = both()
        return turned(at_least(wide(read), c.dtype).mT, c, s).mT[part].to(read.dtype)

    def bias() -> Tensor | None:
        b = base.bias
        return None if b is None else turned(at_least(wide(b), both()[0].dtype), *both()).to(b.dtype)

    return base.then(call=call, rows=rows, bias=bias)
