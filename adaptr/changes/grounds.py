"""A weight that an adapter brings together with its delta: the value stands under the delta.

PEFT saves the table beside a LoRA on it, as `base_layer.weight`. Where it is the base's own there is nothing to do but
the delta; a grown or changed one is the base of the delta, in every use of a tied weight, as the trained model had it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from adaptr.adapter import REPLACED, Adapter, Target
from adaptr.bulk.blocks import working
from adaptr.bulk.change import Change, Layer
from adaptr.checkpoint.reading import every_row, reading
from adaptr.checkpoint.stored import Stored
from adaptr.contract import View
from adaptr.contract.view import ALL
from adaptr.errors import phrases
from adaptr.models.ties import Ties

if TYPE_CHECKING:
    from torch import Tensor


def brought(ties: Ties, adapter: Adapter, replaced: Collection[str] | None = None) -> dict[str, Tensor]:
    """{target path: value} of the weights that `adapter` brings and that differ from the base's.

    `replaced`: names of the tensors that are known to differ, where the base itself is not there.
    """
    found = {}
    for path, name in adapter.grounds.items():
        value, stored = adapter.tensors[f"{name}:{REPLACED}"], ties.find(name)[1]
        known = None if replaced is None or stored is None else stored.name in replaced
        if known or (known is None and not _same(stored, value)):
            found[path] = value
    return found


def _same(stored: Stored | None, value: Tensor) -> bool:
    """Whether a stored tensor has these values, in its own dtype. Reads it block by block."""
    import torch

    if stored is None or stored.entry.shape != tuple(value.shape):
        return False
    with reading(stored) as found:
        rows = found(every_row(stored))
        return all(torch.equal(rows.read(s), value[s].to(rows.dtype)) for s in rows.blocks())


def changes(ties: Ties, layer: Layer, value: Tensor) -> Iterator[Change]:
    """The weight of the layer's target as `value` with the delta on it, and `value` itself for its other uses.

    Raises `NotPossible` at another strength than 1: a value has none.
    """
    if layer.weight != 1.0:
        raise phrases.no_strength(layer.target.path, layer.adapter.label, layer.weight)
    name, stored = ties.find(layer.adapter.grounds[layer.target.path])
    yield Change(name, stored, "replaced", value=merged(layer, value), above=layer)
    for tie in ties.all if ties.use(name, stored) else ():
        others = [use for use in tie.uses if use != name and name in tie.uses]
        own = {ties.find(path)[0] for path in layer.adapter.replaced_paths} if others else set()
        yield from (Change(u, tie.uses[u], "replaced", value=value, ground=True) for u in others if u not in own)


def merged(layer: Layer, value: Tensor) -> Tensor:
    """In the layout of the storage, in the dtype of merging."""
    target, base = layer.target, value.to(working(value.dtype))
    found = layer.merge(View(_uncallable, lambda s: _turned(target, base)[s], exact=base.dtype)).rows(ALL)
    return _turned(target, found).contiguous()


def _turned(target: Target, weight: Tensor) -> Tensor:
    """From the layout of the storage to that of the layer, or back."""
    return weight.mT if target.transposed else weight


def _uncallable(*_: object) -> Tensor:
    raise AssertionError("a weight that is only read has no forward")
