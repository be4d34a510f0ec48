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
from typing import Any

from adaptr.errors import UsageError, shown

Gradient = float | Sequence[float]
Weight = Gradient | Mapping[str, Gradient]

_LAYER = re.compile(r"(?:^|(?<=\.))\d+(?=\.|$)")


def check(weight: Any, label: str) -> Weight:
    """`weight` if it is one. Raises `UsageError`."""
    if isinstance(weight, Mapping):
        if not weight:
            raise UsageError(f"the weights of `{label}` are an empty mapping; wanted patterns, such as `*`")
        return {str(pattern): _gradient(value, label) for pattern, value in weight.items()}
    return _gradient(weight, label)


def _gradient(value: Any, label: str) -> Gradient:
    if isinstance(value, list | tuple):
        if not value:
            raise UsageError(f"a gradient of `{label}` is empty; wanted one or more numbers")
        return [_number(one, label) for one in value]
    return _number(value, label)


def _number(value: Any, label: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"a weight of `{label}` is `{shown(repr(value))}`, wanted a finite number")
    return float(value)


def scaled(weight: Weight, by: float) -> Weight:
    """`by` times a weight."""
    if isinstance(weight, Mapping):
        return {pattern: _scaled(value, by) for pattern, value in weight.items()}
    return _scaled(weight, by)


def _scaled(value: Gradient, by: float) -> Gradient:
    return by * value if isinstance(value, int | float) else [by * one for one in value]


def stored(weight: Weight) -> Any:
    """A weight as JSON that keeps the order of patterns, which objects in canonical JSON don't."""
    return {"patterns": [[p, v] for p, v in weight.items()]} if isinstance(weight, Mapping) else weight


def restored(value: Any, label: str) -> Weight:
    """The weight that was stored. Raises `UsageError`."""
    try:
        return check(dict(value["patterns"]) if isinstance(value, Mapping) else value, label)
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"the weight of `{label}` is stored as `{shown(repr(value))}`, wanted `patterns`") from None


class Layers:
    """The place of each path among the layers, from 0 to 1. Stacks with a prefix of their own count on their own."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._last: dict[str, int] = {}
        for path in paths:
            found = _LAYER.search(path)
            if found:
                prefix = path[: found.start()]
                self._last[prefix] = max(self._last.get(prefix, 0), int(found[0]))

    def at(self, path: str) -> float | None:
        """None for a path outside of all layers."""
        found = _LAYER.search(path)
        if found is None:
            return None
        last = self._last.get(path[: found.start()])
        return int(found[0]) / last if last else None if last is None else 0.0

    def weight(self, weight: Weight, path: str, label: str) -> float:
        """The strength at `path`. Raises `UsageError` where none is said."""
        value = weight if not isinstance(weight, Mapping) else self._by_pattern(weight, path, label)
        if isinstance(value, int | float):
            return float(value)
        place = self.at(path)
        if place is None:
            raise UsageError(
                f"the weight of `{label}` is a gradient over layers, and `{path}` is in none; give it a number by "
                f'pattern, such as {{"*": {list(value)}, "{path}": 1}}'
            )
        return _between(value, place)

    def _by_pattern(self, weight: Mapping[str, Gradient], path: str, label: str) -> Gradient:
        found = [v for p, v in weight.items() if fnmatch.fnmatchcase(path, p) or path.endswith(f".{p}")]
        if not found:
            raise UsageError(f"no pattern of the weights of `{label}` matches `{path}`; add one, such as `*`")
        return found[-1]


def _between(points: Sequence[float], place: float) -> float:
    """The broken line through evenly spaced `points`, at `place` in [0, 1]."""
    at = place * (len(points) - 1)
    low = min(int(at), max(len(points) - 2, 0))
    high = min(low + 1, len(points) - 1)
    return points[low] + (at - low) * (points[high] - points[low])
