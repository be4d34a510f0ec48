"""What pyreft's `config.json` says: each intervention with its place and class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptr.errors import ConfigConflict, ForeignError, Unsupported, phrases, shown
from adaptr.untrusted import json_file

#: Fields of a representation, in the order in which they are saved.
_FIELDS = ("layer", "component", "unit", "max_number_of_units", "low_rank_dimension")
#: Those behind them that change what is computed, by their places, with the one between that a file never has.
_CHANGING = {7: "subspace_partition", 9: "intervention_link_key", 10: "moe_key", 11: "source_representation"}
_CLASS = re.compile(r"<class '[\w.]+\.(\w+)Intervention'>")
_PATH = re.compile(r"(\w+(?:\.\w+|\[\d{1,6}\])*)\.output")
#: Fields of adaptr's own, which pyreft passes over.
POSITIONS, BLOCKS = "adaptr_positions", "adaptr_blocks"


@dataclass(frozen=True)
class One:
    """An intervention. `key`: by which its file is called; `layer`: the block at whose output it is, or `path`."""

    key: str
    kind: str
    r: int
    layer: int = 0
    path: str = ""


@dataclass(frozen=True)
class Said:
    every: tuple[One, ...]
    whole: Mapping[str, Any]

    @classmethod
    def of(cls, file: Path) -> Said:
        """Raises a `ForeignError` for what can't be read, `Unsupported` for what adaptr has no method for."""
        whole = json_file(file, ForeignError)
        if whole.get("mode", "parallel") != "parallel":
            raise Unsupported("its interventions are made one after the other", hint="train it in parallel")
        found, kinds = whole.get("representations"), whole.get("intervention_types")
        if not isinstance(found, list) or not isinstance(kinds, list) or len(found) != len(kinds) or not found:
            raise _misread("`representations` and `intervention_types` are no lists of the same interventions")
        counted: Counter[str] = Counter()
        return cls(tuple(_one(place, kind, counted) for place, kind in zip(found, kinds, strict=True)), whole)

    def text(self, name: str) -> str:
        value = self.whole.get(name, "")
        if not isinstance(value, str):
            raise _misread(f"`{name}` is no text")
        return value


def _one(place: object, kind: object, counted: Counter[str]) -> One:
    named = _CLASS.fullmatch(kind) if isinstance(kind, str) else None
    if named is None:
        raise _misread(f"`{shown(str(kind))}` is no class of an intervention")
    layer, component, unit, units, r = _fields(place)
    _require_plain(component, unit, units)
    called = f"comp_{component.replace('.', '_')}" if "." in component else f"layer_{layer}_comp_{component}"
    key = f"{called}_unit_{unit}_nunit_{units}"
    counted[key] += 1
    key = f"{key}#{counted[key] - 1}"
    match = _PATH.fullmatch(component)
    if match:
        return One(key, named[1], r, path=re.sub(r"\[(\d+)\]", r".\1", match[1]))
    return One(key, named[1], r, layer)


def _fields(place: object) -> tuple[int, str, str, int, int]:
    if isinstance(place, Mapping):
        place = [place.get(name) for name in (*_FIELDS, "intervention_type", "intervention", *_rest())]
    if not isinstance(place, list) or len(place) < len(_FIELDS):
        raise _misread("a representation is no list of its fields")
    said = next((name for at, name in _CHANGING.items() if at < len(place) and place[at] is not None), "")
    if said:
        raise Unsupported(f"an intervention has a `{said}`, and adaptr has no method for that", hint="train it without")
    layer, component, unit, units, r = place[: len(_FIELDS)]
    numbers = [0 if layer is None else layer, units, r]
    if any(type(one) is not int or not 0 <= one < 1 << 20 for one in numbers) or not r:
        raise _misread("the layer, the units or the rank of a representation are no numbers")
    if not isinstance(component, str) or not isinstance(unit, str):
        raise _misread("the component or the unit of a representation is no text")
    return numbers[0], component, unit, units, r


def _rest() -> Iterator[str]:
    yield from (_CHANGING.get(at, "") for at in range(7, 12))


def _require_plain(component: str, unit: str, units: int) -> None:
    if unit != "pos" or (component != "block_output" and not _PATH.fullmatch(component)):
        raise Unsupported(
            f"an intervention is at `{shown(component)}` by `{shown(unit)}`, and adaptr has them at outputs by place",
            hint="train it at `block_output`",
        )


def _misread(fact: str) -> ConfigConflict:
    return ConfigConflict(f"`config.json`: {fact}", hint=phrases.AGAIN)
