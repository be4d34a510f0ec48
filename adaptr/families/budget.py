"""The smallest scheme for each target whose error is within a budget: measured there, and in all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from adaptr import plugins
from adaptr.adapter import keys
from adaptr.errors import NonFinite, NotPossible
from adaptr.families import composite, directions, fidelity
from adaptr.families.encoding import MIXED, SCHEMES

if TYPE_CHECKING:
    from adaptr.adapter import Adapter
    from adaptr.families.base import Method

#: Bytes of a tensor's entry in a header, beside its key.
ENTRY = 60


def within(adapter: Adapter, error: float, by_rank: bool = False) -> Adapter:
    """`adapter`, each target in the scheme that takes the fewest bytes with at most this error, or as it is.

    `by_rank`: also with more bits for its larger singular directions, where it is a product of factors. `error` is of
    what `quantization["of"]` says. Of a sum of parts, which may nearly cancel, each part gets less until the sum is
    within it. Raises `NotPossible` for what has a larger error already, or can't be smaller.
    """
    if _first(adapter) > error:
        raise NotPossible(
            f"the error of `{adapter.label}`, which is quantised already,",
            got=_first(adapter),
            want=f"at most {error}",
            hint="quantise what it was made from",
        )
    made = _of_parts(adapter, error, by_rank) if adapter.parts else _of_targets(adapter, error, by_rank)
    if _size(made) >= _size(adapter):
        raise NotPossible(
            f"no scheme makes `{adapter.label}` smaller with an error of at most {error}", hint="allow a larger one"
        )
    return made


def _first(adapter: Adapter) -> float:
    """The error that it has already."""
    return float(adapter.quantization.get("error", 0.0))


def _of_parts(adapter: Adapter, error: float, by_rank: bool) -> Adapter:
    each = error
    while True:
        part = partial(_of_targets, error=each, by_rank=by_rank)
        made = composite.requantized(plugins.method(adapter.method), adapter, MIXED, part)
        if made.quantization["error"] <= error:
            return made
        each /= 2


def _of_targets(adapter: Adapter, error: float, by_rank: bool) -> Adapter:
    method = plugins.method(adapter.method)
    chosen, tensors = set(), dict(adapter.tensors)
    for one in _alone(method, adapter):
        candidates = [*_candidates(one, error), *(directions.within(method, one, error) if by_rank else ())]
        scheme, best = min(candidates, key=lambda found: _size(found[1]))
        chosen.add(scheme)
        for key in one.tensors:
            del tensors[key]
        tensors |= best.tensors
    if not any(chosen):
        return adapter
    scheme = chosen.pop() if len(chosen) == 1 else MIXED
    made = adapter.replace(tensors=tensors, quantization={"scheme": scheme})
    return made.replace(quantization={"scheme": scheme, **fidelity.declared(method, adapter, made)})


def _alone(method: Method, adapter: Adapter) -> Iterator[Adapter]:
    """The adapter at each of its targets; at all of them, where they share tensors, which are stored once."""
    if any(param.shared for param in method.params.values()):
        yield adapter.replace(tensors=adapter.own)
        return
    for path, here in keys.by_path(adapter.tensors, adapter.parts).items():
        yield adapter.replace(
            targets={path: adapter.targets[path]}, tensors={key: adapter.tensors[key] for key in here}
        )


def _candidates(adapter: Adapter, error: float) -> Iterator[tuple[str, Adapter]]:
    """What is within the error, and its scheme: first the adapter as it is, which is taken where nothing is smaller."""
    yield "", adapter
    for scheme in SCHEMES:
        try:
            made: Adapter = plugins.hooks(adapter.method).quantize(adapter=adapter, scheme=scheme)
        except (NonFinite, NotPossible):  # too narrow for its numbers, or what changes nothing would change something
            continue
        if made.quantization["error"] <= error:
            yield scheme, made


def _size(adapter: Adapter) -> int:
    """Bytes in a file."""
    return sum(tensor.nbytes + len(key) + ENTRY for key, tensor in adapter.tensors.items())
