"""D and U as matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces.module import Module
from adaptr_formats.adapterhub.bottleneck.fields import NORM, slots

#: Method, configuration, pieces of a layer and those that all layers share.
Made = tuple[str, dict[str, Any], dict[str, Piece], dict[str, Piece]]


def read(module: Module, said: Mapping[str, Any]) -> Made:
    named = slots(said)
    m, d = module.shape(named["D"], (2,))
    shapes = {"D": (m, d), "b_d": (m,), "U": (d, m), "b_u": (d,)}
    if said["ln_before"]:
        named, shapes = {**named, **NORM}, {**shapes, "g": (d,), "c": (d,)}
    return "houlsby", {"m": m}, pieces(module, named, shapes), {}


def pieces(module: Module, named: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Piece]:
    for name, want in shapes.items():
        module.require(named[name], module.shape(named[name], (len(want),)) == want, f"shape {want}, as the others say")
    return {name: module.piece(named[name], want) for name, want in shapes.items()}
