"""The layers of a base, and what an adapter has in each: AdapterHub's configurations say the same of all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from adaptr.errors import Unsupported, phrases
from adaptr_formats.adapterhub import layouts, places

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.same import Same

V = TypeVar("V")
_IN_ROOT = re.compile(r"(?:encoder\.|decoder\.)?(?:albert_layer_groups\.\d+\.albert_layers|block|layers?|h)\.\d+$")


@dataclass(frozen=True)
class Made:
    """A configuration, and {adaptr's key: (AdapterHub's, tensor)}."""

    config: dict[str, Any]
    tensors: Mapping[str, tuple[str, Tensor | Same]]


@dataclass(frozen=True)
class Layers:
    """`width`: of the base's layers; `paths`: theirs, in the order in which AdapterHub counts them. `biased`: modules
    that have a bias. `name`: the adapter's. `former`: what older transformers calls modules that are called otherwise.
    """

    model_type: str
    width: int
    paths: tuple[str, ...]
    biased: frozenset[str]
    name: str
    model: layouts.Model
    former: Mapping[str, str] = field(default_factory=dict)

    def grouped(self, adapter: Adapter) -> dict[str, dict[str, Target]]:
        """{layer: {path within it: target}}. Raises `Unsupported` for what is in no layer, or not in each of a sort the
        same.
        """
        found: dict[str, dict[str, Target]] = {}
        for path, target in adapter.targets.items():
            layer, rest = places.divided(path)
            if not layer:
                raise Unsupported(f"`{path}` is in no layer, and AdapterHub has nothing there", hint=phrases.OWN)
            found.setdefault(layer, {})[rest] = target
        for block in (self.model.block, self.model.encoder):
            if len({frozenset(group) for layer, group in found.items() if self.model.at(layer) is block}) > 1:
                raise Unsupported(
                    "AdapterHub has the same modules in every layer that it adapts, and these differ", hint=phrases.OWN
                )
        return found

    def left_out(self, layers: Iterable[str]) -> list[int]:
        """The numbers of the layers that have nothing."""
        there = {self.number(layer) for layer in layers}
        return [one for one in range(len(self.paths)) if one not in there]

    def number(self, layer: str) -> int:
        """The number that AdapterHub has for a layer, whose path may have a prefix more or less."""
        found = [
            n for n, path in enumerate(self.paths)
            if path == layer or path.endswith(f".{layer}") or layer.endswith(f".{path}")
        ]  # fmt: skip
        if len(found) != 1:
            raise Unsupported(f"`{layer}` is no layer of the base", hint=phrases.BASE)
        return found[0]

    def by_number(
        self, groups: Mapping[str, Mapping[str, Target]], told: Callable[[Target], V], what: str
    ) -> dict[int, V]:
        """What all targets of a layer have, by its number."""
        return {self.number(layer): one(map(told, group.values()), what) for layer, group in groups.items()}

    def is_several(self, path: str) -> bool:
        """Whether the layer at `path` is queries, keys and values in one."""
        layer, rest = places.divided(path)
        return len(self.model.at(layer).factors.get(rest, ("", ""))[1]) > 1

    def attention(self, path: str) -> str:
        """The module of an attention's prefix."""
        layer, _ = places.divided(path)
        own = self.model.at(layer).attention
        return places.joined(layer, own) if own else path

    def root(self, layer: str) -> str:
        """How the names of what all layers share begin."""
        return _IN_ROOT.sub("", layer).removesuffix(self.model.prefix)


def one(values: Iterable[V], what: str) -> V:
    """What all have. Raises `Unsupported` where it differs."""
    found = list(values)
    if any(value != found[0] for value in found):
        raise Unsupported(f"AdapterHub has one {what} for all layers, and these differ", hint=phrases.OWN)
    return found[0]


def elsewhere(path: str, what: str) -> Unsupported:
    return Unsupported(f"`{path}` is where AdapterHub has no {what}", hint=phrases.OWN)
