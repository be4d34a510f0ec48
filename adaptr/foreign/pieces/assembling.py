"""From layers to an adapter: of one method, or a stack of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Adapter
from adaptr.errors import NoAdapterTensors, Unsupported, phrases
from adaptr.foreign import finish
from adaptr.foreign.draft import Pieces
from adaptr.foreign.pieces.module import Layer

if TYPE_CHECKING:
    from torch import Tensor


def adapter(layers: Sequence[Layer], tensors: Mapping[str, Tensor], source: str, about: Mapping[str, Any]) -> Adapter:
    """The adapter of `layers`, in their order, whose `tensors` stay in their file until asked for.

    Raises `NoAdapterTensors` for none, `Unsupported` for layers of several methods.
    """
    methods = sorted({layer.method for layer in layers})
    if not layers:
        raise NoAdapterTensors(f"`{source}` holds no tensors of an adapter", hint=phrases.AGAIN)
    if len(methods) > 1:
        raise Unsupported(
            f"`{source}` holds layers of several methods, {' and '.join(f'`{name}`' for name in methods)}",
            hint="save the layers of each in a file of their own",
        )
    pieces = {f"{one.target.path}:{name}": piece for one in layers for name, piece in one.pieces.items()}
    made = Adapter(
        method=methods[0],
        config=_common(layers),
        targets={layer.target.path: layer.target for layer in layers},
        tensors=Pieces(tensors, pieces),
        source=source,
    )
    finish.check(made, pieces)
    return finish.named(made, about)


def _common(layers: Sequence[Layer]) -> dict[str, Any]:
    """The configuration that most layers have."""
    found = Counter(tuple(sorted(layer.target.config.items())) for layer in layers)
    return dict(found.most_common(1)[0][0])
