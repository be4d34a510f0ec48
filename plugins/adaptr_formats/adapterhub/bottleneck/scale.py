"""What a bottleneck's branch is multiplied by: a number, or one for each feature, which goes into the second layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.pieces.module import Module
from adaptr_formats.adapterhub.bottleneck.fields import SCALING, unknown

if TYPE_CHECKING:
    from torch import Tensor


def read(module: Module, said: Mapping[str, Any], pieces: dict[str, Piece]) -> tuple[float, dict[str, Piece]]:
    """The number that is left to multiply by, and the pieces."""
    if not module.has(SCALING):
        return fields_of.number(said, "scaling"), pieces
    (size,) = module.shape(SCALING, (1,))
    if size == 1:
        return float(module.file[module.keys[SCALING]]), pieces
    if "U" not in pieces:
        raise unknown("a factor for each feature of Kronecker products", "scaling")
    module.require(SCALING, (size,) == pieces["b_u"].shape, "one, or one for each feature")

    def times(value: Tensor) -> Tensor:
        factor = module.file[module.keys[SCALING]].double()
        return (value.double() * factor.view(-1, *(1 for _ in value.shape[1:]))).to(value.dtype)

    return 1.0, _then(pieces, times)


def multiplied(pieces: dict[str, Piece], scale: float) -> dict[str, Piece]:
    if scale == 1.0:
        return pieces
    return _then(pieces, lambda value: (value.double() * scale).to(value.dtype))


def _then(pieces: dict[str, Piece], done: Callable[[Tensor], Tensor]) -> dict[str, Piece]:
    """The pieces with something done to the second layer."""

    def after(piece: Piece) -> Callable[[Tensor], Tensor]:
        first = piece.then
        return done if first is None else lambda value: done(first(value))

    last = [name for name in ("U", "t_u", "B_u", "b_u") if name in pieces]
    return {**pieces, **{name: dataclasses.replace(pieces[name], then=after(pieces[name])) for name in last}}
