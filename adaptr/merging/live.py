"""Adapters merged into a live model's own weights, and taken out again bit for bit: the twin of merge and unmerge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from adaptr import targets
from adaptr.errors import TargetNotFound, TiedWeights, Unsupported, UsageError
from adaptr.host.attach import LEDGER, forget, key_of
from adaptr.host.handle import Handle
from adaptr.host.originals import Place, Write
from adaptr.merging.in_memory import Change, changes

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
        self._undo.append(lambda: forget(model, self.key))

    def weigh(self, by: Callable[[str], float]) -> None:
        raise UsageError("a merged adapter has the strength it was merged at: detach it, and attach it at another")

    def detach(self) -> None:
        """Take the adapter out, whatever was merged since. Raises `Unsupported`, and changes nothing, where one of its
        weights was written to by somebody else.
        """
        for write in self.writes:
            write.check()
        super().detach()
        self.writes = []


def attach(model: nn.Module, adapter: Adapter, weight: float, tied: Tied = None) -> Merged:
    """Merge `adapter` into the weights of `model`, wholly or not at all."""
    found = changes(model, adapter, weight)
    if not found:
        raise TargetNotFound(f"adapter `{adapter.label}` has no targets: merging it would change nothing")
    writes = [Write(_places(model, change, found, tied), change.at, change.make) for change in _once(model, found)]
    handle = Merged(model, adapter, weight)
    try:
        for write in writes:
            write.do()
            handle.writes.append(write)
            handle._undo.append(write.undo)
    except BaseException:
        handle.detach()
        raise
    return handle


def _names(model: nn.Module, name: str) -> list[str]:
    """All that the parameter is called."""
    own = targets.parameter(model, name)
    return [other for other, found in model.named_parameters(remove_duplicate=False) if found is own]


def _once(model: nn.Module, found: Sequence[Change]) -> list[Change]:
    """Without what is one parameter under another name. Raises `Unsupported` where it would be changed in two ways."""
    kept: list[Change] = []
    for change in found:
        names = _names(model, change.name)
        twin = next((other for other in kept if other.name in names and other.name != change.name), None)
        if twin is None:
            kept.append(change)
        elif not _same_value(twin, change):
            raise Unsupported(
                f"`{twin.name}` and `{change.name}` are one tensor, and both are changed; merge into a checkpoint "
                "(`adaptr merge`), or attach without `merged`"
            )
    return kept


def _same_value(one: Change, two: Change) -> bool:
    return one.value is not None and two.value is not None and bool((one.value == two.value).all())


def _places(model: nn.Module, change: Change, found: Sequence[Change], tied: Tied) -> list[Place]:
    """Where the parameter is used. Raises `TiedWeights` where that is in several places and only one is meant."""
    names = _names(model, change.name)
    meant = {other.name for other in found if other.name in names and other.value is not None}
    if len(names) > 1 and tied != "both" and meant != set(names):
        others = " and ".join(f"`{other}`" for other in names if other != change.name)
        raise TiedWeights(
            f"`{change.name}` is tied to {others}: the model uses one tensor in several places, an attached adapter "
            'acts on one of them, and merging would change all. Say `tied="both"` to change all, or attach without '
            "`merged`"
        )
    split = [other.rpartition(".") for other in (change.name, *(n for n in names if n != change.name))]
    return [(targets.submodule(model, owner), last) for owner, _, last in split]
