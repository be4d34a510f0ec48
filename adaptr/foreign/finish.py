"""From what a reader made of a file to an adapter: held against its method, with what adaptr wrote beside."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import REPLACED, Adapter, Base, part_keys

if TYPE_CHECKING:
    from adaptr.foreign.draft import Piece


def check(adapter: Adapter, pieces: Mapping[str, Piece]) -> None:
    """Hold the shapes against the method's own table: the last word, whatever the reader thought."""
    from adaptr import plugins

    for part in adapter.parts:
        inside = part_keys(pieces, part)
        check(adapter.part(part), {own: pieces[key] for own, key in inside.items()})
    method = plugins.method(adapter.method)
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, piece in pieces.items():
        path, _, name = key.rpartition(":")
        if name != REPLACED:
            found.setdefault(path, {})[name] = piece.shape
    shared = {} if "" in adapter.targets else found.get("", {})
    for path, target in adapter.targets.items():
        method.check(target, {**found.get(path, {}), **shared})


def named(adapter: Adapter, about: Mapping[str, Any]) -> Adapter:
    """`adapter` with what `about` says (see `saving.told`), and what the tool's own configuration says of the base."""
    said: Base = about["base"]
    found = {name: getattr(said, name) for name in ("architecture", "structure", "content", "quantization")}
    base = dataclasses.replace(adapter.base, **{name: text for name, text in found.items() if text})
    return adapter.replace(**{**about, "base": base})
