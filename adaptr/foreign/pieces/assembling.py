"""From layers to an adapter: of one method, or a stack of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from adaptr.adapter import REPLACED, Adapter
from adaptr.adapter.part import Part
from adaptr.errors import NoAdapterTensors, Unsupported, phrases
from adaptr.foreign import finish
from adaptr.foreign.draft import Piece, Pieces
from adaptr.foreign.pieces.module import Layer, Whole

if TYPE_CHECKING:
    from torch import Tensor


def adapter(
    found: Sequence[Layer | Whole],
    tensors: Mapping[str, Tensor],
    source: str,
    about: Mapping[str, Any],
    called: Mapping[str, str] = MappingProxyType({}),
) -> Adapter:
    """The adapter of layers and whole parameters, whose `tensors` stay in their file until asked for.

    called: method to the name of its part, where that is another.

    Raises `NoAdapterTensors` for none, `Unsupported` for whole parameters alone.
    """
    layers = [one for one in found if isinstance(one, Layer)]
    whole = {f"{one.path}:{REPLACED}": one.piece for one in found if isinstance(one, Whole)}
    if not layers:
        raise _nothing(source, whole)
    methods = sorted({layer.method for layer in layers})
    names = {method: called.get(method, method) for method in methods}
    made = _single(layers, methods[0]) if len(methods) == 1 else _stack(layers, names)
    pieces = {**_pieces(layers, {} if len(methods) == 1 else names), **whole}
    made = made.replace(tensors=Pieces(tensors, pieces), source=source)
    for part in [made.part(name) for name in made.parts] or [made]:
        finish.check(part, _pieces([layer for layer in layers if layer.method == part.method], {}))
    return finish.named(made, about)


def _nothing(source: str, whole: Mapping[str, Piece]) -> Exception:
    if whole:
        return Unsupported(
            f"`{source}` holds whole parameters alone, and no layer of a method",
            hint="merge it into its base, and extract the difference (`adaptr extract`)",
        )
    return NoAdapterTensors(f"`{source}` holds no tensors of an adapter", hint=phrases.AGAIN)


def _single(layers: Sequence[Layer], method: str) -> Adapter:
    return Adapter(method, _common(layers), _targets(layers), {})


def _stack(layers: Sequence[Layer], names: Mapping[str, str]) -> Adapter:
    """A part for each method. They are at other layers, or at weights and biases: all add."""
    parts = {}
    for method, name in names.items():
        mine = [layer for layer in layers if layer.method == method]
        parts[name] = Part(method, 1, _common(mine), _targets(mine))
    return Adapter("stack", {"order": list(parts), "weights": {}, "off": []}, {}, {}, parts=parts)


def _targets(layers: Sequence[Layer]) -> dict[str, Any]:
    return {layer.target.path: layer.target for layer in layers}


def _pieces(layers: Sequence[Layer], names: Mapping[str, str]) -> dict[str, Piece]:
    """The pieces by adaptr's keys, those of a stack with the name of their part."""
    return {
        f"{path}:{f'{names[layer.method]}.' if names else ''}{name}": piece
        for layer in layers
        for path, found in ((layer.target.path, layer.pieces), ("", layer.shared))
        for name, piece in found.items()
    }


def _common(layers: Sequence[Layer]) -> dict[str, Any]:
    """The configuration that most layers have."""
    configs = {repr(sorted(layer.target.config.items())): layer.target.config for layer in layers}
    counted = Counter(repr(sorted(layer.target.config.items())) for layer in layers)
    return dict(configs[counted.most_common(1)[0][0]])
