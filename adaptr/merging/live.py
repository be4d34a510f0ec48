"""Adapters merged into a live model's own weights, and taken out again bit for bit: the twin of merge and unmerge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from adaptr.errors import UsageError, phrases
from adaptr.host import saving
from adaptr.host.attach import LEDGER, forget, key_of
from adaptr.host.handle import Handle
from adaptr.host.originals import Place, Write
from adaptr.merging import untied
from adaptr.merging.in_memory import Change, changes
from adaptr.merging.uses import settle

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.bulk.change import Tied


class Merged(Handle):
    """An adapter in the weights. A forward costs what the bare model's costs; `detach()` puts the old bytes back."""

    def __init__(self, model: nn.Module, adapter: Adapter, weight: float) -> None:
        super().__init__(model, adapter, key_of(model, adapter))
        self.strength = weight
        self.writes: list[Write] = []
        model.__dict__.setdefault(LEDGER, {})[self.key] = adapter
        model.__dict__.setdefault(saving.MERGED, set()).add(self.key)
        saving.tell(model)
        self._undo += [lambda: saving.hush(model), lambda: forget(model, self.key)]

    def weigh(self, by: Callable[[str], float]) -> None:
        raise UsageError(
            "a merged adapter has the strength it was merged at", hint="detach it, and attach it at another"
        )

    def merge(self, write: Write) -> None:
        """Write one of its changes."""
        write.do()
        self.writes.append(write)
        self._undo.append(write.undo)

    def detach(self) -> None:
        """Take the adapter out, whatever was merged since, and tie what it untied. Raises `Unsupported`, and changes
        nothing, where one of its weights was written to by somebody else.
        """
        if not self._undo:
            return
        for write in self.writes:
            write.check()
        untied.check(self.model)
        while self._undo:
            self._undo[-1]()  # stays where what was merged later can't be merged anew
            self._undo.pop()
        self.writes = []
        untied.retie(self.model)


def attach(model: nn.Module, adapter: Adapter, weight: float, tied: Tied = None) -> Merged:
    """Merge `adapter` into the weights of `model`, wholly or not at all."""
    found = changes(model, adapter, weight)
    if not (found or adapter.all_targets or adapter.replaced_paths):
        raise phrases.no_targets(adapter.label, "merging")
    writes, apart = settle(model, found, tied)
    handle = Merged(model, adapter, weight)
    try:
        if apart:
            untied.untie(model)
        for places, change in writes:
            handle.merge(Write(places, change.at, change.make, _read_by(places, change)))
    except BaseException:
        handle.detach()
        raise
    return handle


def _read_by(places: Sequence[Place], change: Change) -> list[Place]:
    """The weight that a bias is made by."""
    return [(module, "weight") for module, _ in places] if change.below is not None else []
