"""Two checkpoints of one model under the names of the first, whatever each of them stores of what the model reads.

They may have other prefixes, a head that is tied on one side and stored on the other, and buffers that older versions
of transformers saved and newer ones make themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from adaptr.checkpoint.names import Names
from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.stored import Stored
from adaptr.models.ties import Ties


@dataclass(frozen=True)
class Aligned:
    """`base`, `tuned`: tensors by the base's names, those of a tied use included where the other side stores it.

    `read`: by side, the checkpoint's own name of each. `ignored`: tensors that the model does not read.
    """

    base: Checkpoint
    tuned: Checkpoint
    read: tuple[Mapping[str, str], Mapping[str, str]]
    ignored: tuple[str, ...] = ()


def aligned(base: Checkpoint, tuned: Checkpoint) -> Aligned:
    """The two side by side; as they are where their names are the same, or transformers does not know the model."""
    one, two = _Side(base), _Side(tuned)
    if base.tensors.keys() == tuned.tensors.keys() or not (one.known and two.known):
        return Aligned(base, tuned, (_same(base), _same(tuned)))
    mine = {name: one.live(name) for name in one.tensors}
    called = {live: name for name, live in mine.items()}
    theirs = {called.get(live := two.live(name), live): name for name in two.tensors}
    found = dict(one.tensors), {name: two.tensors[own] for name, own in theirs.items()}
    for name in mine.keys() - theirs.keys():
        _complete(found[1], name, two.tied(mine[name]))
    for name in theirs.keys() - mine.keys():
        _complete(found[0], name, one.tied(two.live(theirs[name])))
    unread = {n for n in found[0].keys() - found[1].keys() if not one.reads(n)}
    views = tuple(
        replace(checkpoint, tensors={name: replace(s, name=name) for name, s in tensors.items() if name not in unread})
        for checkpoint, tensors in zip((base, tuned), found, strict=True)
    )
    return Aligned(views[0], views[1], (_same(base), theirs), tuple(sorted({*one.ignored, *two.ignored, *unread})))


def under_names_of(base: Checkpoint, other: Checkpoint) -> Checkpoint:
    """`other` with the names that `base` has for the same parameters; nothing is left out, added or found elsewhere."""
    one, two = _Side(base), _Side(other)
    if base.tensors.keys() == other.tensors.keys() or not (one.known and two.known):
        return other
    called = {one.live(name): name for name in base.tensors}
    names = {name: called.get(two.live(name), name) for name in other.tensors}
    if len(set(names.values())) < len(names):  # one parameter under two names: which is read is not known
        return other
    return replace(other, tensors={names[name]: replace(s, name=names[name]) for name, s in other.tensors.items()})


def _same(checkpoint: Checkpoint) -> dict[str, str]:
    return {name: name for name in checkpoint.tensors}


def _complete(tensors: dict[str, Stored], name: str, tied: Stored | None) -> None:
    if tied is not None:
        tensors[name] = tied


class _Side:
    """One checkpoint, and how its model reads it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint, self.names = checkpoint, Names(checkpoint)

    @property
    def known(self) -> bool:
        return self.names.loading is not None

    @cached_property
    def tensors(self) -> dict[str, Stored]:
        """What is stored, without the buffers that the model makes itself."""
        return {name: s for name, s in self.checkpoint.tensors.items() if name not in self.ignored}

    @cached_property
    def ignored(self) -> set[str]:
        """What transformers passes over in silence: buffers that older versions saved."""
        assert self.names.loading is not None
        model: Any = self.names.loading.model
        strange = {name for name in self.checkpoint.tensors if not self.reads(name)}
        left = SimpleNamespace(missing_keys=set(), unexpected_keys={self.live(name) for name in strange})
        adjust = getattr(model, "_adjust_missing_and_unexpected_keys", None)
        if adjust is not None:
            adjust(left)
        return {name for name in strange if self.live(name) not in left.unexpected_keys}

    @cached_property
    def _state(self) -> set[str]:
        assert self.names.loading is not None
        return set(self.names.loading.model.state_dict())

    def live(self, name: str) -> str:
        """What the model calls a tensor; its own name where several are made into one parameter."""
        assert self.names.loading is not None
        return self.names.loading.names.get(name, name)

    def reads(self, name: str) -> bool:
        assert self.names.loading is not None
        return self.live(name) in self._state or name not in self.names.loading.names

    def tied(self, live: str) -> Stored | None:
        """The tensor that a parameter is read from which is not stored itself."""
        return next((tie.uses[live] for tie in Ties(self.names).all if live in tie.uses), None)
