"""Buffers that are saved with a model and are as long as its vocabulary: they grow and shrink with the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from adaptr.bulk.change import FLOATS, Change
from adaptr.checkpoint.names import Names
from adaptr.checkpoint.reading import whole
from adaptr.checkpoint.stored import Stored

if TYPE_CHECKING:
    from torch import Tensor


def grown(names: Names, changes: Mapping[str, Change], replaced: Collection[str] | None = None) -> dict[str, Change]:
    """The changes of such buffers (BART's `final_logits_bias`) where a table gets another number of rows.

    New places are zero, as transformers resizes them. What an adapter brings itself stays. `replaced`: the tensors that
    a merge has replaced, where the checkpoint is what it made: then the changes have no values.
    """
    sizes = {pair for change in changes.values() for pair in _rows(change, replaced)}
    new = dict(sizes)
    if not sizes or len(new) < len(sizes) or names.loading is None:
        return {}
    live, model = names.loading.names, names.loading.model
    buffers = dict(model.named_buffers()).keys() & model.state_dict().keys()
    found = {}
    for name, stored in names.checkpoint.tensors.items():
        now = new.get(stored.entry.shape[-1]) if stored.entry.shape and stored.entry.dtype in FLOATS else None
        if (
            now is not None
            and live.get(name) in buffers
            and name not in changes
            and (replaced is None or name in replaced)
        ):
            value = _resized(stored, now) if replaced is None else None
            found[name] = Change(name, stored, "replaced", value=value)
    return found


def _rows(change: Change, replaced: Collection[str] | None) -> list[tuple[int, int]]:
    """(rows of a stored table, rows that it gets) where these are others, or may have been."""
    if change.stored is None or change.value is None or change.value.ndim != 2:
        return []
    old, now = change.stored.entry.shape, tuple(change.value.shape)
    return [(old[0], now[0])] if old[1:] == now[1:] and (old[0] != now[0] or replaced is not None) else []


def _resized(stored: Stored, size: int) -> Tensor:
    import torch

    old = whole(stored)
    made = torch.zeros(*old.shape[:-1], size, dtype=old.dtype)
    kept = min(size, old.shape[-1])
    made[..., :kept] = old[..., :kept]
    return made
