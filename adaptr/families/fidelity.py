"""What quantising cost an adapter: `{"error", "of"}`, as the manifest declares it. `of` says of what the error is:

- `delta`: the largest ‖D' - D‖ / ‖D‖ of a target's weight or bias, for what has a delta of its own. It bounds that over
  all targets.
- `change`: the largest ‖p' - p‖ / ‖p - 1‖ of scales p, which change nothing where they are 1. That of a weight's
  change is the same where its rows (columns) are equally long; else it is smaller or larger.
- `tensors`: the largest ‖t' - t‖ / ‖t‖ of a tensor. What becomes of the change depends on the base or on the input, and
  its error may be larger: rounding a magnitude costs little of a weight, but may cost much of a small change to it.
- `parts`: the largest of what the parts declare of themselves, where not all have deltas, or their weights vary.

Frobenius, in fp64, against what was quantised first: e₁ from before and e₂ from now are at most e₁ + e₂ (1 + e₁).
Rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter.tensors import all_at_least
from adaptr.algebra.sum import Sum
from adaptr.errors import NotPossible

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.algebra.operator import Operator
    from adaptr.contract import Live, Member
    from adaptr.families.base import Method

    #: A method, its target and tensors there, and its strength.
    Part = tuple[Method, Target, Live, float]

#: By target: ‖gap‖² and ‖size‖² of what is measured there.
Squares = dict[str, list[tuple[float, float]]]

#: Of squares: what fp64 may lose of ‖D' - D‖² to cancellation, relative to ‖D‖². Added, so that no error is too small.
ROUNDING = 1e-14


def declared(method: Method, before: Adapter, after: Adapter) -> dict[str, Any]:
    """The error of `after`, which is `before` quantised, with that which `before` declares itself.

    Raises `NotPossible` where a change of zero became another.
    """
    of = _of(method, before)
    first = before.quantization.get("error", 0.0)
    now = max(errors(method, before, after).values(), default=0.0)
    if math.isinf(now):
        raise NotPossible(
            f"`{before.label}` changes nothing, and would change something when quantised",
            hint="keep it unquantised, or leave it out",
        )
    return {"error": _up(first + now * (1 + first)), "of": of}


def errors(method: Method, before: Adapter, after: Adapter) -> dict[str, float]:
    """By target, what `declared` says the largest of, against `before`: infinite where nothing became something."""
    return {path: _largest(found) for path, found in _MEASURES[_of(method, before)](method, before, after).items()}


def of_parts(children: Mapping[str, Adapter]) -> dict[str, Any]:
    """What an adapter with these parts declares, where its own change is none that can be said without the base."""
    said = [child.quantization for child in children.values()]
    return worst(said) if said else {"error": 0.0, "of": "parts"}


def worst(said: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The largest of what several declare."""
    of = "tensors" if any(one.get("of", "tensors") == "tensors" for one in said) else "parts"
    return {"error": max(one.get("error", 0.0) for one in said), "of": of}


def summed(method: Method, adapter: Adapter) -> bool:
    """Whether all that the adapter does is to add deltas, whatever the base and the input are."""
    if not method.merges(method.config(adapter.config)) or not _comparable(adapter, "delta"):
        return False
    found = [plugins.method(member.adapter.method) for member in method.members(adapter)]
    return bool(found) and all(one.can.adds for one in found)


def _comparable(adapter: Adapter, of: str) -> bool:
    """Whether an error declared before is of the same, or bounds it. Those of files that don't say are of tensors."""
    bounds = {of} if adapter.parts else {of, "parts"}  # the worst of parts bounds each part's, not that of their sum
    return not adapter.quantization or adapter.quantization.get("of", "tensors") in bounds


def _of(method: Method, adapter: Adapter) -> str:
    if summed(method, adapter):
        return "delta"
    there = {key.rpartition(":")[2] for key in adapter.tensors}
    trained = [param for name, param in method.params.items() if param.trains and name in there]
    scales = bool(trained) and all(param.init == "ones" for param in trained)
    return "change" if scales and _comparable(adapter, "change") else "tensors"


def _of_delta(method: Method, before: Adapter, after: Adapter) -> Squares:
    was, now = method.members(before), method.members(after)
    return {path: list(_gaps(list(_here(was, path)), list(_here(now, path)))) for path in _places(was)}


def _gaps(first: list[Part], then: list[Part]) -> Iterator[tuple[float, float]]:
    """Of the weight and of the bias at a target, where they change."""
    D, E = _deltas(first), _deltas(then)
    if D:
        yield _gap(D, E)
    b, c = _shifts(first), _shifts(then)
    if b:
        gap = (sum(c[1:], c[0]) - sum(b[1:], b[0])).square().sum()
        yield float(gap), float(sum(b[1:], b[0]).square().sum())


def _places(members: list[Member]) -> dict[str, None]:
    return dict.fromkeys(path for member in members for path in member.adapter.targets)


def _here(members: list[Member], path: str) -> Iterator[Part]:
    """What the members that have a target are there, in fp64."""
    import torch

    for _, adapter, strength in members:
        if path in adapter.targets:
            p = all_at_least(adapter.at(path), torch.float64)
            yield plugins.method(adapter.method), adapter.targets[path], p, strength(path)


def _deltas(parts: list[Part]) -> list[Operator]:
    return [m.operator(t, p) * w for m, t, p, w in parts if m.can.delta]


def _shifts(parts: list[Part]) -> list[Tensor]:
    found = [m.shift(p, m.config(t.config), w) for m, t, p, w in parts]
    return [shift for shift in found if shift is not None]


def _gap(before: list[Operator], after: list[Operator]) -> tuple[float, float]:
    """‖D' - D‖² and ‖D‖² at a target, exactly 0 where all that it is made of is the same."""
    whole = Sum(*before)
    size = whole.inner(whole)
    pairs = zip(whole.tensors, Sum(*after).tensors, strict=True)
    if all(bool((one == other).all()) for one, other in pairs):
        return 0.0, size
    gap = Sum(*after, *(-op for op in before))
    return max(gap.inner(gap), 0.0) + ROUNDING * size, size


def _of_values(method: Method, before: Adapter, after: Adapter, origin: float) -> Squares:
    """The errors of tensors, against their distance from `origin`."""
    return {
        path: [
            (float((b - a).square().sum()), float((a - origin).square().sum()))
            for a, b in _pairs(method, before, after, path)
        ]
        for path in before.targets
    }


def _pairs(method: Method, before: Adapter, after: Adapter, path: str) -> Iterator[tuple[Tensor, Tensor]]:
    """The trained tensors at a target, before and after, in fp64."""
    was, now = before.at(path), after.at(path)
    return ((tensor.double(), now[name].double()) for name, tensor in was.items() if method.params[name].trains)


def _largest(squares: list[tuple[float, float]]) -> float:
    """The largest ‖gap‖ / ‖size‖."""
    return max((_ratio(gap, size) for gap, size in squares), default=0.0)


def _ratio(gap: float, size: float) -> float:
    if not gap:
        return 0.0
    return math.sqrt(gap / size) if size else math.inf


def _up(error: float, digits: int = 4) -> float:
    """The next number of so many digits, so that what rounds in fp32 later makes no error larger than declared."""
    if not error:
        return 0.0
    places = digits - 1 - math.floor(math.log10(error))
    return float(f"{math.ceil(error * 10.0**places - 1e-6)}e{-places}")


_MEASURES: dict[str, Callable[[Method, Adapter, Adapter], Squares]] = {
    "delta": _of_delta,
    "change": partial(_of_values, origin=1.0),
    "tensors": partial(_of_values, origin=0.0),
}
