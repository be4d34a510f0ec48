"""The layers of a base, and what an adapter has in each: AdapterHub's configurations say the same of all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from adaptr.errors import Unsupported, phrases
from adaptr_formats.adapterhub import layouts, places

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.same import Same

V = TypeVar("V")


@dataclass(frozen=True)
class Made:
    """A configuration, and {adaptr's key: (AdapterHub's, tensor)}."""

    config: dict[str, Any]
    tensors: Mapping[str, tuple[str, Tensor | Same]]


@dataclass(frozen=True)
class Layers:
    """`width`, `count`: of the base's layers. `biased`: modules that have a bias. `name`: the adapter's."""

    model_type: str
    width: int
    count: int
    biased: frozenset[str]
    name: str
    model: layouts.Model

    def grouped(self, adapter: Adapter) -> dict[str, dict[str, Target]]:
        """{layer: {path within it: target}}. Raises `Unsupported` for what is in no layer, or not in each the same."""
        found: dict[str, dict[str, Target]] = {}
        for path, target in adapter.targets.items():
            layer, rest = places.divided(path)
            if not layer:
                raise Unsupported(f"`{path}` is in no layer, and AdapterHub has nothing there", hint=phrases.OWN)
            found.setdefault(layer, {})[rest] = target
        if len({frozenset(group) for group in found.values()}) > 1:
            raise Unsupported(
                "AdapterHub has the same modules in every layer that it adapts, and these differ", hint=phrases.OWN
            )
        return found

    def left_out(self, layers: Iterable[str]) -> list[int]:
        """The numbers of the layers that have nothing."""
        there = {number(layer) for layer in layers}
        return [one for one in range(self.count) if one not in there]

    def root(self, layer: str) -> str:
        """How the names of what all layers share begin."""
        return re.sub(r"(?:encoder\.|decoder\.)?(?:layers?|h)\.\d+$", "", layer)


def number(layer: str) -> int:
    return int(layer.rpartition(".")[2])


def one(values: Iterable[V], what: str) -> V:
    """What all have. Raises `Unsupported` where it differs."""
    found = list(values)
    if any(value != found[0] for value in found):
        raise Unsupported(f"AdapterHub has one {what} for all layers, and these differ", hint=phrases.OWN)
    return found[0]


def by_layer(groups: Mapping[str, Mapping[str, Target]], told: Callable[[Target], V], what: str) -> dict[int, V]:
    """What all targets of a layer have, by its number."""
    return {number(layer): one(map(told, group.values()), what) for layer, group in groups.items()}


def elsewhere(path: str, what: str) -> Unsupported:
    return Unsupported(f"`{path}` is where AdapterHub has no {what}", hint=phrases.OWN)
