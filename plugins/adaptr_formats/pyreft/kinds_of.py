"""pyreft's classes of interventions, each as one of adaptr's methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.errors import TensorUnknown, Unsupported, phrases, shown
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import reflections
from adaptr.foreign.pieces.module import Module

if TYPE_CHECKING:
    from torch import Tensor

ROTATE = "rotate_layer"
ORIGINAL, BASE = f"{ROTATE}.parametrizations.weight.original", f"{ROTATE}.parametrizations.weight.0.base"
SOURCE, PROJECTION = "learned_source", "proj_layer"
#: Numbers that say how wide the base is.
_WIDTHS = frozenset({"embed_dim", "interchange_dim"})


@dataclass(frozen=True)
class Unit:
    """An intervention's tensors, of rank `r`."""

    module: Module
    r: int

    @property
    def width(self) -> int:
        """Of what it is at. Raises as `Module.shape` does."""
        m = self.module
        slot = next((slot for slot in (ROTATE, ORIGINAL) if m.has(slot)), "")
        return m.shape(slot, (2,))[0] if slot else m.shape(f"{PROJECTION}.weight", (2,))[1]

    def pieces(self, kind: str) -> Mapping[str, Piece]:
        """By adaptr's names."""
        made = _PIECES[kind][1](self)
        read = {piece.source for piece in made.values()} | {self.module.keys.get(BASE, "")}
        spare = f"{PROJECTION}.bias"
        odd = [slot for slot, key in self.module.keys.items() if key not in read and slot not in {*_WIDTHS, spare}]
        if odd:
            raise TensorUnknown(f"`{shown(odd[0])}` is no tensor of pyreft's {kind}Intervention", hint=phrases.AGAIN)
        return made

    def matrix(self, slot: str) -> Piece:
        return self._whole(slot, (self.r, self.width))

    def vector(self, slot: str) -> Piece:
        return self._whole(slot, (self.r,))

    def _whole(self, slot: str, shape: tuple[int, ...]) -> Piece:
        found = self.module.shape(slot, (len(shape),))
        self.module.require(slot, found == shape, f"{shape}, as rank and base say")
        return self.module.piece(slot, shape)

    def nothing(self) -> Piece:
        """A matrix of zeros, which no file has."""
        import torch

        shape = (self.r, self.width)
        return Piece("", shape, value=torch.zeros(shape))

    def basis(self) -> Piece:
        """R (r, d), whose columns lie in the file, or as torch trains them."""
        m, d = self.module, self.width
        if m.has(ROTATE):
            m.require(ROTATE, m.shapes[ROTATE] == (d, self.r), f"({d}, {self.r}), as its rank says")
            return m.piece(ROTATE, (self.r, d), order=(1, 0))
        m.require(ORIGINAL, m.shape(ORIGINAL, (2,)) == (d, self.r) and self.r < d, f"{self.r} columns, fewer than rows")
        m.require(BASE, m.shape(BASE, (2,)) == (d, d), f"({d}, {d})") if m.has(BASE) else m.shape(BASE, (2,))

        def made(original: Tensor) -> Tensor:
            return reflections.columns(original, m.file[m.keys[BASE]]).mT.to(original.dtype)

        return Piece(m.keys[ORIGINAL], (self.r, d), then=made)

    def reduced(self) -> Piece:
        """NoReFT's bias, less that of its projection where that has one."""
        piece, spare = self.vector(f"{SOURCE}.bias"), f"{PROJECTION}.bias"
        if not self.module.has(spare):
            return piece
        other = self.vector(spare).source

        def less(bias: Tensor) -> Tensor:
            return (bias.double() - self.module.file[other].double()).to(bias.dtype)

        return Piece(piece.source, piece.shape, then=less)


def method(kind: str) -> str:
    """Raises `Unsupported` for a class that is not known."""
    if kind not in _PIECES:
        raise Unsupported(
            f"adaptr has no method for pyreft's {shown(kind)}Intervention",
            hint=f"it knows {phrases.listed(f'{name}Intervention' for name in _PIECES)}",
        )
    return _PIECES[kind][0]


def _loreft(u: Unit) -> dict[str, Piece]:
    inside = f"{SOURCE}." if u.module.has(f"{SOURCE}.weight") else ""
    return {"R": u.basis(), "W": u.matrix(f"{inside}weight"), "b": u.vector(f"{inside}bias")}


_PIECES: Mapping[str, tuple[str, Callable[[Unit], dict[str, Piece]]]] = {
    "Loreft": ("loreft", _loreft),
    "Consreft": ("loreft", lambda u: {"R": u.basis(), "W": u.nothing(), "b": u.vector(SOURCE)}),
    "Noreft": (
        "noreft",
        lambda u: {"R": u.matrix(f"{PROJECTION}.weight"), "W": u.matrix(f"{SOURCE}.weight"), "b": u.reduced()},
    ),
    "Direft": (
        "direft",
        lambda u: {"W2": u.basis(), "W1": u.matrix(f"{SOURCE}.weight"), "b": u.vector(f"{SOURCE}.bias")},
    ),
    "Nodireft": (
        "direft",
        lambda u: {
            "W2": u.matrix(f"{PROJECTION}.weight"),
            "W1": u.matrix(f"{SOURCE}.weight"),
            "b": u.vector(f"{SOURCE}.bias"),
        },
    ),
    "Lobireft": ("direft", lambda u: {"W2": u.basis(), "W1": u.nothing(), "b": u.vector(SOURCE)}),
}
