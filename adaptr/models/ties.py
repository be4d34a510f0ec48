"""Which parameters of a checkpoint are one tensor used twice: asked of its model's class, and of what the files hold.

Parameters are tied by the configuration alone (one is stored), by value (several are stored, and equal), against the
configuration (several are stored and differ: readers disagree on which counts), or not at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from adaptr.adapter import Target, agree
from adaptr.checkpoint.names import Names, Place
from adaptr.checkpoint.reading import same_bytes
from adaptr.checkpoint.stored import Stored
from adaptr.errors import TargetMismatch, TargetNotFound, phrases
from adaptr.models import tying


@dataclass(frozen=True)
class Tie:
    """Parameters that the configuration ties, by their names in the model, each with the tensor it is read from.

    `own`: those that are stored themselves; the others are read from the tensor of one of these.
    """

    uses: Mapping[str, Stored]
    own: frozenset[str]

    @property
    def stored(self) -> list[Stored]:
        """The tensors, each once."""
        return [self.uses[name] for name in self.uses if name in self.own]

    @property
    def bias(self) -> bool:
        """Whether it is one bias by two names, of which one layer uses one: there is nothing to tell apart."""
        return len(self.stored[0].entry.shape) == 1

    @cached_property
    def equal(self) -> bool:
        """Whether all uses have the same values. Reads the tensors where several are stored."""
        first, *others = self.stored
        return all(same_bytes(first, other) for other in others)


class Ties:
    """The ties of a checkpoint. transformers is asked when a tensor is met that may be tied: that takes seconds."""

    def __init__(self, names: Names) -> None:
        self.names, self.checkpoint = names, names.checkpoint
        self._stacks = Counter(_pattern(layer) for layer in {_layer(name) for name in self.checkpoint.tensors})

    @cached_property
    def all(self) -> tuple[Tie, ...]:
        groups = tying.groups(self.checkpoint.config)
        return tuple(tie for group in groups for tie in self._ties(group))

    def use(self, name: str, stored: Stored | None = None) -> str:
        """Which use of a tied tensor a parameter is, by its name in the model, or ""; `stored`: where it was found."""
        if self._is_of_many(stored.name if stored is not None else name):
            return ""
        exact = [use for tie in self.all for use in tie.uses if use == name]
        if exact:
            return name
        if stored is not None:
            read = [use for tie in self.all for use, other in tie.uses.items() if other is stored and use in tie.own]
            return read[0] if read else ""
        live = self.names.live(name) if self.all else ""
        return live if any(live in tie.uses for tie in self.all) else ""

    def find(self, name: str) -> tuple[str, Stored | None]:
        """(the use that a parameter is, or the name of its tensor; that tensor), and None for a new one."""
        stored = self.names.find(name)
        use = self.use(name, stored)
        if use:
            return use, self.read(use)
        return (stored.name if stored is not None else name), stored

    def place(self, target: Target) -> tuple[str, Place]:
        """The same for the weight of a target. Raises `TargetNotFound`, `TargetMismatch`."""
        name = target.path if target.stacked else f"{target.path}.weight"
        try:
            place = self.names.weight(target)
        except TargetNotFound:
            use = self.use(name)
            if not use:
                raise
            return use, Place(_fitting(self.read(use), target), slice(0, self.read(use).entry.shape[0]))
        use = self.use(name, place.stored) if place.whole and not target.stacked else ""
        return use or place.stored.name, place

    def bias(self, target: Target) -> tuple[str, Stored | None]:
        """The same for its bias: ("", None) where it has none. Raises `TargetMismatch`."""
        stored = self.names.bias(target)
        use = self.use(f"{target.path}.bias", stored) if target.biased else ""
        return (use, self.read(use)) if use else (stored.name if stored is not None else "", stored)

    def stored(self, name: str) -> Stored:
        """The tensor of that name, or that a use of that name is read from."""
        return self.checkpoint.tensors.get(name) or self.read(name)

    def read(self, use: str) -> Stored:
        """The tensor that a use is read from."""
        return next(tie.uses[use] for tie in self.all if use in tie.uses)

    @property
    def apart(self) -> list[Tie]:
        """Those whose uses are stored apart, against the configuration or in agreement."""
        return [tie for tie in self.all if len(tie.own) > 1] if self._several() else []

    def file_name(self, use: str) -> str:
        """What a use would be called in the checkpoint: with the prefix that the file gives its kin."""
        tie = next(tie for tie in self.all if use in tie.uses)
        for live in tie.own:
            mine, theirs = _prefixes(live, tie.uses[live].name)
            if mine and use.startswith(mine):
                return theirs + use.removeprefix(mine)
        return use

    def _is_of_many(self, name: str) -> bool:
        """Whether a tensor is of one layer of several: what is tied is outside, or in one that alone is stored."""
        return self._stacks[_pattern(_layer(name))] > 1

    def _several(self) -> bool:
        """Whether two tensors outside of layers have one shape, as the two of a stored tie must."""
        shapes = Counter(s.entry.shape for n, s in self.checkpoint.tensors.items() if not self._is_of_many(n))
        return any(count > 1 for count in shapes.values())

    def _ties(self, group: tuple[str, ...]) -> list[Tie]:
        found = {name: stored for name in group if (stored := self.names.find(name)) is not None}
        if not found:
            return []
        first = next(iter(found.values()))
        uses = {name: found.get(name, first) for name in group}
        if self.checkpoint.config.get(tying.FLAG) is not False:
            return [Tie(uses, frozenset(found))]
        # the class ties whatever it is told (T5): only what is not stored is tied
        apart = [{name: s for name, s in uses.items() if s is stored} for stored in found.values()]
        return [Tie(mine, frozenset(mine) & found.keys()) for mine in apart if len(mine) > 1]


def weight_place(names: Names, target: Target) -> Place:
    """Where the weight of a target is read: a tied head's is its table. Raises `TargetNotFound`, `TargetMismatch`."""
    try:
        return names.weight(target)
    except TargetNotFound:
        return Ties(names).place(target)[1]


def _fitting(stored: Stored, target: Target) -> Stored:
    if not agree(stored.entry.shape, target.stored_shape):
        raise phrases.misshapen(
            f"`{stored.name}` in the base, to which `{target.path}` is tied,",
            stored.entry.shape,
            target.stored_shape,
            TargetMismatch,
            by="by the adapter",
            hint=phrases.BASE,
        )
    return stored


def _layer(name: str) -> str:
    """A name up to its last number; "" for a name without."""
    found = re.match(r"(.*\.|)\d+(?=\.)", name)
    return found[0] if found else ""


def _pattern(name: str) -> str:
    return re.sub(r"(?<![^.])\d+(?![^.])", "#", name)


def _prefixes(live: str, stored: str) -> tuple[str, str]:
    """What stands before the part that a parameter's two names share at their end."""
    ends = list(_shared(live.split(".")[::-1], stored.split(".")[::-1]))
    return tuple(name[: len(name) - len(".".join(ends[::-1]))] for name in (live, stored))  # type: ignore[return-value]


def _shared(one: Iterable[str], two: Iterable[str]) -> Iterable[str]:
    for a, b in zip(one, two, strict=False):
        if a != b:
            return
        yield a
