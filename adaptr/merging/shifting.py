"""Changes that go into the zero points of a packed weight, whose codes stay: one number for each row and group."""

from __future__ import annotations

import math
from dataclasses import replace

from adaptr.bulk.change import Change, Layer, Plan
from adaptr.packings import Codec, Encoded


def shifted(todo: Plan) -> Plan:
    """The same changes, those of zero points alone by a codec that writes these."""
    return replace(todo, changes={name: _shifted(change) for name, change in todo.changes.items()})


def _shifted(change: Change) -> Change:
    stored = change.packed
    return change if stored is None else replace(change, stored=replace(stored, codec=codec_of(stored.codec, change)))


def codec_of(codec: Codec, change: Change) -> Codec:
    """How a packed weight that changes is written in its parts again."""
    if not isinstance(codec, Encoded) or change.what != "weight" or not change.layers:
        return codec
    return codec.shifted(math.gcd(*map(_group, change.layers))) or codec


def _group(layer: Layer) -> int:
    """For how many inputs in a row a layer changes a weight by the same number, 1 where that is not known."""
    if not layer.method.can.delta:
        return 1
    found: int = layer.method.operator(layer.target, layer.adapter.at(layer.target.path)).group
    return found
