"""DID: W' = W + P z, z one vector for all weights, P fixed and random for each.  Li et al. 2018, arXiv:1804.08838.

The intrinsic dimension measured directly: `d` numbers are trained, and all of the weights change. P is a Fastfood
projection, drawn again from `seed` and the name that its weight had (`stream`) by a generator whose stream never
changes, and checked against `sha256`; only z is stored. A live layer keeps what was drawn, 8 bytes for each number of
its weight. `reference_grad` has the gradient of the widespread code, whose transforms are normalised backwards alone,
so that each weight counts by 1 / L, its length as a power of two. Biases are none of its targets. Fresh, z is zero.

Choose it to measure how many numbers a task needs, or where a file of a few kilobytes counts for more than all else.
It costs two transforms of each weight in every step, which is slow beyond small models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr import Delta, Dense, Param, Target
from adaptr.adapter import kinds
from adaptr.contract import Live
from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """`n`, `sizes`: how long z is, and the shape of a target's weight, which follow."""

    d: int = 20_000
    reference_grad: bool = False
    seed: int = 0
    n: int = 1
    sizes: list[int] = field(default_factory=list)
    stream: str = ""
    sha256: str = ""


class DID(Delta[Config]):
    name = "did"
    params = {"z": Param("n", shared=True)}
    kinds = kinds.WEIGHTED
    targets = ("all-linear",)
    portable = True
    rate = 3e-2
    small = {"d": 40}

    def delta(self, p: Live, cfg: Config) -> Dense:
        return Dense(self.projected(p, cfg).view(cfg.sizes))

    def projected(self, p: Live, cfg: Config) -> Tensor:
        """P z of all of a weight in C order."""
        from adaptr.algebra import fastfood

        z, size = p["z"], math.prod(cfg.sizes)

        def make() -> Tensor:
            if z.is_meta:
                return fastfood.shaped(size, len(z))
            found: Tensor = fastfood.drawn(cfg.seed, cfg.stream, size, len(z), cfg.sha256)
            return found.to(z.device)

        made: Tensor = fastfood.projected(z, p.derived("fastfood", (z.device,), make), size)
        if not cfg.reference_grad:
            return made
        at = made.detach()
        return at + (made - at) / fastfood.length(size)

    def own(self, places: Sequence[Target]) -> int:
        """How many of the `d` numbers are no part of z."""
        return 0

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        d, own = self.config(values).d, self.own(places)
        if d <= own:
            raise BadConfig(f"`{self.name}`: `d`", got=d, want=f"more than {own}, a number for each of the weights")
        return {**values, "n": d - own}

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        values = {**values, "sizes": list(target.shape), "stream": target.path}
        if next(model.parameters()).is_meta:
            return values
        from adaptr.algebra import fastfood

        made = fastfood.drawn(values["seed"], target.path, math.prod(target.shape), values["n"])
        return {**values, "sha256": fastfood.digest(made)}
