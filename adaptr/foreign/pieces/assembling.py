"""From layers to an adapter: of one method, or a stack of several."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from adaptr.adapter import REPLACED, Adapter
from adaptr.adapter.part import Part
from adaptr.errors import ConfigConflict, NoAdapterTensors, TensorUnknown, Unsupported, phrases, shown
from adaptr.foreign import finish, npz
from adaptr.foreign.draft import Piece, Pieces
from adaptr.foreign.pieces.module import Layer, Whole

if TYPE_CHECKING:
    from torch import Tensor

#: Numbers that may be computed of a file's in any case, however few it has.
_SMALL = 1 << 27


def adapter(
    found: Sequence[Layer | Whole],
    tensors: Mapping[str, Tensor],
    source: str,
    about: Mapping[str, Any],
    called: Mapping[str, str] = MappingProxyType({}),
) -> Adapter:
    """The adapter of layers and whole parameters, whose `tensors` stay in their file until asked for.

    called: method to the name of its part, where that is another.

    Raises `NoAdapterTensors` for none, `Unsupported` for whole parameters alone, `ConfigConflict` where two tensors are
    for one place, and `TensorUnknown` for products that are out of all proportion to the file.
    """
    layers = [one for one in found if isinstance(one, Layer)]
    _require_once(found)
    whole = {f"{one.path}:{REPLACED}": one.piece for one in found if isinstance(one, Whole)}
    if not layers:
        raise _nothing(source, whole)
    methods = sorted({layer.method for layer in layers})
    names = {method: called.get(method, method) for method in methods}
    made = _single(layers, methods[0]) if len(methods) == 1 else _stack(layers, names)
    pieces = {**_pieces(layers, {} if len(methods) == 1 else names), **whole}
    _require_in_proportion(pieces, tensors, source)
    made = made.replace(tensors=Pieces(tensors, pieces), source=source)
    for part in [made.part(name) for name in made.parts] or [made]:
        finish.check(part, _pieces([layer for layer in layers if layer.method == part.method], {}))
    return finish.named(made, about)


def _require_once(found: Sequence[Layer | Whole]) -> None:
    """One of two would be left out: of names that end alike, or that are one module of the base."""
    seen: dict[tuple[str, str, str], str] = {}
    for one in found:
        pieces = one.pieces if isinstance(one, Layer) else {REPLACED: one.piece}
        method, path = (one.method, one.target.path) if isinstance(one, Layer) else ("", one.path)
        for name, piece in pieces.items():
            if (method, path, name) in seen:
                raise ConfigConflict(
                    f"`{shown(path)}`",
                    got=f"both `{shown(seen[method, path, name])}` and `{shown(piece.source)}`",
                    want="one tensor for each place",
                    hint=phrases.AGAIN,
                )
            seen[method, path, name] = piece.source


def _require_in_proportion(pieces: Mapping[str, Piece], tensors: Mapping[str, Tensor], source: str) -> None:
    """A product of two vectors can be larger than any memory."""
    made = sum(math.prod(piece.shape) for piece in pieces.values() if piece.then is not None)
    if made <= _SMALL:
        return
    shape = getattr(tensors, "shape", lambda key: tuple(tensors[key].shape))
    held = sum(math.prod(shape(key)) for key in tensors)
    if made > npz.MOST * held + _SMALL:
        raise TensorUnknown(
            f"of the {held} numbers of `{source}` {made} would be computed", want="those of weights", hint=phrases.FETCH
        )


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
