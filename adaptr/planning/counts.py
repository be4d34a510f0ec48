"""How many numbers a fresh adapter trains, changes and stores: summed over what its method says of each target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import Target
from adaptr.families import also as whole
from adaptr.planning.foundation import Foundation

if TYPE_CHECKING:
    from adaptr.families.base import Method
    from adaptr.targets import Spec

#: Bytes of a number as it is stored.
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
INTEGER = 8


@dataclass(frozen=True)
class Counts:
    """`trained`, `changed`: numbers, the latter in the base. `floats`, `integers`: numbers in the artifact, trained or
    not. `largest`: of the largest tensor that trains. `places`: the methods and targets that were counted.
    """

    trained: int
    changed: int
    floats: int
    integers: int
    tensors: int
    largest: int
    factored: int
    places: tuple[tuple[Method, Target], ...]
    whole: tuple[str, ...]

    def stored(self, dtype: str) -> int:
        """Bytes of the artifact's tensors in a dtype."""
        return self.floats * BYTES[dtype] + self.integers * INTEGER


def counted(
    base: Foundation,
    method: str,
    config: Mapping[str, Any] | None = None,
    targets: Spec = None,
    also: Sequence[str] = (),
) -> Counts:
    """Raises what creating such an adapter raises, with the same words."""
    places = plugins.method(method).outline(base.model, targets, config)
    shapes: dict[str, tuple[tuple[int, ...], bool, bool]] = {}
    for own, target in places:
        for name, shape in own.shapes(target).items():
            shapes[f"{own.name} {own.key(target.path, name)}"] = (
                shape,
                own.params[name].trains,
                own.params[name].whole,
            )
    changed = sum(own.changes(target, own.config(target.config)) for own, target in places)
    added = _added(base, also)
    for path, shape in added.items():
        shapes[path] = (shape, True, False)
    return _summed(shapes, changed + sum(map(math.prod, added.values())), places, tuple(added))


def everything(base: Foundation) -> Counts:
    """Full fine-tuning: all of the base."""
    shapes = {name: (tuple(p.shape), True, False) for name, p in base.model.named_parameters()}
    return _summed(shapes, sum(math.prod(shape) for shape, _, _ in shapes.values()), [], tuple(shapes))


def _added(base: Foundation, also: Sequence[str]) -> dict[str, tuple[int, ...]]:
    words = [also] if isinstance(also, str) else also
    return {name: tuple(p.shape) for word in words for name, p in whole.named(base.model, word)}


def _summed(
    shapes: Mapping[str, tuple[tuple[int, ...], bool, bool]],
    changed: int,
    places: Sequence[tuple[Method, Target]],
    added: tuple[str, ...],
) -> Counts:
    learning = [shape for shape, trains, _ in shapes.values() if trains]
    return Counts(
        trained=sum(map(math.prod, learning)),
        changed=changed,
        floats=sum(math.prod(shape) for shape, _, integer in shapes.values() if not integer),
        integers=sum(math.prod(shape) for shape, _, integer in shapes.values() if integer),
        tensors=len(shapes),
        largest=max(map(math.prod, learning), default=0),
        factored=sum(_factored(shape) for shape in learning),
        places=tuple(places),
        whole=added,
    )


def _factored(shape: tuple[int, ...]) -> int:
    """How many numbers Adafactor keeps of a tensor: rows and columns of a matrix, all of a vector."""
    if len(shape) < 2:
        return math.prod(shape)
    return math.prod(shape[:-1]) + math.prod((*shape[:-2], shape[-1]))
