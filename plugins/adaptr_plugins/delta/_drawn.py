"""What methods have in common that train vectors between two frozen random matrices shared by all layers.

The matrices are drawn again from `seed` whenever they are needed, by a generator whose stream never changes, and
checked against `sha256`. Files of other tools bring their own (`stored`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from adaptr import Delta, Target
from adaptr.contract import Live
from adaptr.errors import phrases

if TYPE_CHECKING:
    from torch import Tensor, nn


class Pair(NamedTuple):
    """How A and B are drawn: their shapes, and the bounds that their numbers are uniform in."""

    A: tuple[int, ...]
    B: tuple[int, ...]
    bounds: tuple[float, float]


#: Those drawn in this process, and their digest, by method, seed and pair.
_DRAWN: dict[tuple[str, int, Pair], tuple[Tensor, Tensor, str]] = {}


@dataclass(frozen=True)
class Config:
    """`in_max` and `out_max`: the largest sides of all layers; `stored`: whether A and B are there, and not drawn."""

    in_max: int = 1
    out_max: int = 1
    stored: bool = False
    seed: int = 0
    sha256: str = ""
    dropout: float = 0.0


#: The configuration of a method that is more than these fields.
C = TypeVar("C", bound=Config)


class Drawn(Delta[C]):
    """What is to be supplied is `pair`."""

    most = {"r": 2**20}  # what is drawn at once

    def pair(self, cfg: C) -> Pair:
        raise NotImplementedError

    def projections(self, p: Live | Mapping[str, Tensor], cfg: C) -> tuple[Tensor, Tensor]:
        """A and B, fp32: the stored ones, or those of the seed.

        Raises `DigestMismatch` if these are not those that `sha256` promises.
        """
        if cfg.stored:
            return p["A"], p["B"]
        key = (self.name, cfg.seed, self.pair(cfg))
        if key not in _DRAWN:
            drawn = _draw(*key)
            _DRAWN[key] = *drawn, digest(*drawn)
        A, B, found = _DRAWN[key]
        if cfg.sha256 and found != cfg.sha256:
            raise phrases.drawn_otherwise(
                f"`{self.name}`: the projections drawn from seed {cfg.seed}",
                found,
                cfg.sha256,
                "save it with its projections, where it was trained",
            )
        return A, B

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        out_max, in_max = (max(place.shape[axis] for place in places) for axis in (0, 1))
        values = {**values, "out_max": out_max, "in_max": in_max}
        if next(model.parameters()).is_meta:
            return values
        cfg = self.config(values)
        return {**values, "sha256": digest(*_draw(self.name, cfg.seed, self.pair(cfg)))}


def _draw(name: str, seed: int, pair: Pair) -> tuple[Tensor, Tensor]:
    from adaptr.algebra import stream

    def uniform(letter: str, shape: tuple[int, ...], bound: float) -> Tensor:
        drawn: Tensor = (stream.uniform(seed, f"{name}.{letter}", shape) * 2 - 1) * bound
        return drawn.float()

    return uniform("A", pair.A, pair.bounds[0]), uniform("B", pair.B, pair.bounds[1])


def digest(A: Tensor, B: Tensor) -> str:
    """sha256 over the bytes of A, then B, fp32 in C order."""
    return hashlib.sha256(A.contiguous().numpy().tobytes() + B.contiguous().numpy().tobytes()).hexdigest()
