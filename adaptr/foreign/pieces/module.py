"""What a file holds for one module of a base, and what a reader makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target
from adaptr.errors import ConfigConflict, TensorAbsent, phrases
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import alphas
from adaptr.foreign.supplied import NOTHING, Supplied

if TYPE_CHECKING:
    from torch import Tensor, nn

#: The slot of the number that scales are made of.
ALPHA = "alpha"


@dataclass(frozen=True)
class Module:
    """The tensors of one module: `keys` and `shapes` by slot, which is what the tool calls a tensor within a module.

    `model`: the base, where it is known. `unsaid`: what a rank is scaled by where the file has no alpha and its tool
    knows one all the same. `supplied`: what was said of what the file does not hold.
    """

    path: str
    keys: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    file: Mapping[str, Tensor]
    model: nn.Module | None = None
    unsaid: Callable[[int], Mapping[str, Any]] | None = None
    supplied: Supplied = NOTHING

    def has(self, *slots: str) -> bool:
        return any(slot in self.keys for slot in slots)

    def shape(self, slot: str, axes: tuple[int, ...]) -> tuple[int, ...]:
        """Raises `TensorAbsent` without it, `ConfigConflict` where it has none of these numbers of `axes`."""
        if slot not in self.keys:
            there = next(iter(self.keys.values()))
            raise TensorAbsent(f"`{self.path}` has no `{slot}`, and has `{there}`", hint=phrases.AGAIN)
        found = self.shapes[slot]
        if len(found) not in axes or 0 in found:
            raise self.misshapen(slot, f"{' or '.join(map(str, axes))} axes, none empty")
        return found

    def misshapen(self, slot: str, want: str) -> ConfigConflict:
        return ConfigConflict(
            f"`{self.keys[slot]}`", verb="has", got=f"shape {self.shapes[slot]}", want=want, hint=phrases.AGAIN
        )

    def require(self, slot: str, good: bool, want: str) -> None:
        """Raises `ConfigConflict` unless a shape is `good`."""
        if not good:
            raise self.misshapen(slot, want)

    def piece(self, slot: str, shape: tuple[int, ...], order: tuple[int, ...] = ()) -> Piece:
        return Piece(self.keys[slot], shape, order=order)

    def scaled(self, rank: int) -> Mapping[str, Any]:
        """What a configuration says of the scale. Raises as `alpha` does."""
        if self.unsaid is not None and ALPHA not in self.keys and self.supplied.alpha_of(rank) is None:
            return self.unsaid(rank)
        return {"alpha": self.alpha(rank)}

    def alpha(self, rank: int) -> float:
        """Raises `ConfigMissing` where it is not in the file and was not supplied; 0, of which readers make different
        things, is none.
        """
        found = alphas.number(self.file, self.keys[ALPHA]) if ALPHA in self.keys else 0.0
        zero = f", where it is 0 in `{self.keys[ALPHA]}`" if ALPHA in self.keys else ""
        return found or self.supplied.require_alpha(
            rank,
            f"`{self.path}`{zero}",
            f"sd-scripts and ComfyUI would take the rank, {rank}, for a scale of 1, and the training's own is "
            "`ss_network_alpha` of its metadata or settings",
        )


@dataclass(frozen=True)
class Layer:
    """What one method does at a module: its target, where its tensors are, and those that all its layers share."""

    method: str
    target: Target
    pieces: Mapping[str, Piece]
    shared: Mapping[str, Piece] = field(default_factory=dict)


@dataclass(frozen=True)
class Whole:
    """A parameter of the base that the file's tensor gives a new value."""

    path: str
    piece: Piece


def complete(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with the method's own defaults for all else."""
    from adaptr import plugins

    found: dict[str, Any] = vars(plugins.method(method).config(values)).copy()
    return found
