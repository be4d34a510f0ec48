"""Where an adapter changes a base model: a module or parameter, what sort of place it is, and its sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adaptr.adapter import kinds


@dataclass(frozen=True)
class Target:
    """A place in the base model that an adapter changes.

    `path`: the module's path as the model names it (the parameter's path for expert stacks, "" for the model itself).
    `kind`: one of `adaptr.adapter.kinds`, asked by the properties here. `shape`: the logical shape: (out, in)
    of a linear layer whatever its storage; (heads, width) of an attention; (width,) of a norm or block; 0 where a size
    is not known, as in files that say one side of a layer. `config`: the method's configuration, resolved for this
    target.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dims(self) -> dict[str, int | tuple[int, ...]]:
        """Sizes of the named axes that this target binds."""
        if self.stacked:
            e, out, into = self.shape
            return {"e": (e,), "out": out, "in": into, "i": (into,), "k": ()}
        if self.is_matrix:
            out, into, *kernel = self.shape
            return {"e": (), "out": out, "in": into, "i": (into,), "k": tuple(kernel)}
        if self.is_attention:
            heads, width = self.shape
            return {"h": heads, "d": width}
        return {"e": (), "out": self.shape[0], "d": self.shape[0], "i": (), "k": ()}

    @property
    def stacked(self) -> bool:
        """Whether it is a stack of experts, whose path is a parameter's."""
        return kinds.TABLE_OF[self.kind].stacked

    @property
    def is_matrix(self) -> bool:
        """Whether its weight is a matrix, with experts before and a kernel behind."""
        return kinds.TABLE_OF[self.kind].matrix

    @property
    def weighted(self) -> bool:
        """Whether its weight can be changed: a matrix, or the vector of a norm."""
        return kinds.TABLE_OF[self.kind].weighted

    @property
    def is_linear(self) -> bool:
        return self.kind in kinds.LAYERS

    @property
    def looked_up(self) -> bool:
        """Whether its input are indices of rows."""
        return kinds.TABLE_OF[self.kind].looked_up

    @property
    def biased(self) -> bool:
        """Whether it can have a bias."""
        return kinds.TABLE_OF[self.kind].biased

    @property
    def is_attention(self) -> bool:
        return self.kind == kinds.ATTENTION

    @property
    def is_model(self) -> bool:
        return self.kind == kinds.MODEL

    @property
    def is_place(self) -> bool:
        """Whether it is a module whose output is changed, whatever its weights are."""
        return self.kind == kinds.PLACE

    @property
    def transposed(self) -> bool:
        """Whether its weight is stored as (in, out)."""
        return kinds.TABLE_OF[self.kind].transposed

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of the weight in a checkpoint."""
        if self.stacked and self.transposed:
            return (self.shape[0], self.shape[2], self.shape[1])
        return (self.shape[1], self.shape[0]) if self.transposed else self.shape


def agree(found: tuple[int, ...], want: tuple[int, ...]) -> bool:
    """Whether sizes found in a base are those that a target wants, where it knows them."""
    return len(found) == len(want) and all(w in (0, f) for f, w in zip(found, want, strict=True))


def numel(shapes: Iterable[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)
