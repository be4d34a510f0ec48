"""How strong an adapter is at each target: a number, a gradient over the layers, or either by pattern of the path.

0.7                                     everywhere
[0, 1]                                  from 0 in the first layer to 1 in the last, in a straight line
{"*": 0.5, "*.mlp.*": [1, 0.2, 1]}      by pattern, a later one before an earlier one
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import SupportsFloat

from adaptr.errors import UsageError, shown

Gradient = float | Sequence[float]
Weight = Gradient | Mapping[str, Gradient]

_NUMBER = re.compile(r"(?:^|(?<=\.))\d+(?=\.|$)")
#: What stands before a layer's number: `layers`, `encoder.layer`, `h`, `transformer_blocks`, `albert_layer_groups`.
_STACK = re.compile(r"(.*_)?(layers?|h|(res)?blocks?|groups?|stages?)")
#: What counts experts, which lie beside each other and not one after the other.
_EXPERTS = re.compile(r"(.*_)?experts?")
_EXPERT = 3


def checked(weight: object, label: str) -> Weight:
    """`weight` if it is one. Raises `UsageError`."""
    if isinstance(weight, Mapping):
        if not weight:
            raise UsageError(f"the weights of `{label}` are an empty mapping", want="patterns, such as `*`")
        return {str(pattern): _gradient(value, label) for pattern, value in weight.items()}
    return _gradient(weight, label)


def _gradient(value: object, label: str) -> Gradient:
    if isinstance(value, list | tuple):
        if not value:
            raise UsageError(f"a gradient of `{label}` is empty", want="one or more numbers")
        return [number(one, label) for one in value]
    return number(value, label)


def number(value: object, label: str) -> float:
    """`value` as a float, if it is one finite number. Raises `UsageError`."""
    try:
        found = math.nan if isinstance(value, bool) or not isinstance(value, SupportsFloat) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # arrays and tensors of several, huge integers
        found = math.nan
    if not math.isfinite(found):
        raise UsageError(f"a weight of `{label}`", got=f"`{shown(repr(value))}`", want="a finite number")
    return found


def scaled(weight: Weight, by: float) -> Weight:
    """`by` times a weight."""
    if isinstance(weight, Mapping):
        return {pattern: _scaled(value, by) for pattern, value in weight.items()}
    return _scaled(weight, by)


def _scaled(value: Gradient, by: float) -> Gradient:
    return by * value if isinstance(value, int | float) else [by * one for one in value]


def stored(weight: Weight) -> object:
    """A weight as JSON that keeps the order of patterns, which objects in canonical JSON don't."""
    return {"patterns": [[p, v] for p, v in weight.items()]} if isinstance(weight, Mapping) else weight


def restored(value: object, label: str) -> Weight:
    """The weight that was stored. Raises `UsageError`."""
    try:
        return checked(dict(value["patterns"]) if isinstance(value, Mapping) else value, label)
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"the weight of `{label}` is stored as `{shown(repr(value))}`", want="`patterns`") from None


def matches(pattern: str, path: str) -> bool:
    """Whether a weight by pattern is meant for a path."""
    return fnmatch.fnmatchcase(path, pattern) or path.endswith(f".{pattern}")


class Layers:
    """The place of each path among the layers, from 0 to 1. Stacks with a prefix of their own count on their own.

    Of several numbers in a path the layer's is that after the name of a stack (`0.encoder.layer.3`,
    `layers.3.mlp.experts.5`), else after another name but that of experts, else one of modules in a row (`0`, `2`); of
    those that are alike the first that is not the same in all paths (`block.3.layer.0`, `groups.0.layers.3`).
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._seen: dict[str, set[int]] = {}
        self._paths = list(paths)
        for path in self._paths:
            for prefix, number in _numbers(path):
                self._seen.setdefault(prefix, set()).add(number)

    def at(self, path: str) -> float | None:
        """None for a path outside of all layers."""
        found = self._of(path)
        if found is None:
            return None
        prefix, number = found
        last = max(self._seen.get(prefix, ()), default=0)
        return number / last if last else 0.0

    def number(self, path: str) -> int | None:
        """That of the layer in its stack, None for a path outside of all layers."""
        found = self._of(path)
        return None if found is None else found[1]

    @property
    def last(self) -> int:
        """The highest number of a layer."""
        return max((n for path in self._paths if (n := self.number(path)) is not None), default=0)

    def _of(self, path: str) -> tuple[str, int] | None:
        """(what stands before it, the number) of the layer."""
        found = _numbers(path)
        seen = [self._seen.get(prefix, set()) for prefix, _ in found]
        if not any(seen):
            return None
        return found[next((i for i, values in enumerate(seen) if len(values) > 1), 0)]

    def weight(self, weight: Weight, path: str, label: str) -> float:
        """The strength at `path`. Raises `UsageError` where none is said."""
        value = weight if not isinstance(weight, Mapping) else self._by_pattern(weight, path, label)
        if isinstance(value, int | float):
            return float(value)
        place = self.at(path)
        if place is None:
            raise UsageError(
                f"the weight of `{label}` is a gradient over layers, and `{path}` is in none",
                hint=f'give it a number by pattern, such as {{"*": {list(value)}, "{path}": 1}}',
            )
        return _between(value, place)

    def _by_pattern(self, weight: Mapping[str, Gradient], path: str, label: str) -> Gradient:
        found = [v for p, v in weight.items() if matches(p, path)]
        if not found:
            raise UsageError(f"no pattern of the weights of `{label}` matches `{path}`", hint="add one, such as `*`")
        return found[-1]


def _numbers(path: str) -> list[tuple[str, int]]:
    """(what stands before it, the number) of all numbers in a path that may be its layer's, as likely as each other."""
    found = [(path[: n.start()], int(n[0])) for n in _NUMBER.finditer(path)]
    sorts = [_sort(prefix.rstrip(".").rpartition(".")[2]) for prefix, _ in found]
    best = min(sorts, default=None)
    return [] if best == _EXPERT else [one for one, sort in zip(found, sorts, strict=True) if sort == best]


def _sort(name: str) -> int:
    """What a number after `name` counts: layers, something with a name, modules in a row, or experts."""
    if _EXPERTS.fullmatch(name):
        return _EXPERT
    return 0 if _STACK.fullmatch(name) else 1 if name and not name.isdigit() else 2


def _between(points: Sequence[float], place: float) -> float:
    """The broken line through evenly spaced `points`, at `place` in [0, 1]."""
    at = place * (len(points) - 1)
    low = min(int(at), max(len(points) - 2, 0))
    high = min(low + 1, len(points) - 1)
    return points[low] + (at - low) * (points[high] - points[low])
