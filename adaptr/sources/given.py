"""Adapters as people give them in Python: one way everywhere, read here and nowhere else.

An adapter is a text or path that says where it is, a `Source`, an `Adapter`, or an expression of several such as
`0.7 * a + 0.3 * b`. Alone, or with a weight: `(adapter, 0.5)`; one, several, or several by name. A text is one adapter,
wherever it stands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Adapter, weighting
from adaptr.adapter.expression import Expression
from adaptr.errors import UsageError, shown
from adaptr.sources.open import open_adapter
from adaptr.sources.resolve import Place, Source, resolve

if TYPE_CHECKING:
    from torch import nn

#: One adapter, or where it is.
Given = Place | Adapter | Expression
#: The same, once it is decided what a text names.
What = Source | Adapter | Expression
#: The same as given, alone or with a weight: a number, a list of numbers by layer, or either by pattern of the path.
Weighted = Given | tuple[Given, Any]
#: One, several, or several by name.
Several = Weighted | Iterable[Weighted] | Mapping[str, Weighted]

_PLACE = (str, os.PathLike, Source)
_ONE = (*_PLACE, Adapter, Expression)


@dataclass(frozen=True)
class One:
    """One adapter of several. `name`: as it was called, "" where it was not. `bare`: without a weight of its own."""

    what: What
    weight: Any = 1.0
    name: str = ""
    bare: bool = True

    @property
    def label(self) -> str:
        """What people call it."""
        return self.name or label(self.what)


def one(given: Given) -> What:
    """A single adapter. Raises `UsageError` for anything else, a pair with a weight included."""
    if isinstance(given, Adapter | Expression):
        return given
    if isinstance(given, _PLACE):
        return resolve(given)
    raise UsageError(
        "an adapter",
        got=f"`{shown(repr(given))}`",
        want="an adapter, or where one is",
        hint="a weight has no meaning here" if isinstance(given, tuple) else "",
    )


def single(given: Weighted) -> One:
    """A single adapter, with a weight or without."""
    return _weighted(given) if isinstance(given, tuple) and len(given) == 2 else One(one(given))


def is_one(given: Several) -> bool:
    """Whether a single adapter is given, and nothing that holds some."""
    return isinstance(given, _ONE)


def several(given: Several, least: int = 1) -> list[One]:
    """All adapters that are given. Raises `UsageError` for fewer than `least`."""
    found = _each(given)
    if len(found) < least:
        raise UsageError("no adapter was given", hint="give one at least")
    return found


def _each(given: object) -> list[One]:
    if isinstance(given, Mapping):
        return [_weighted(value, _name(key)) for key, value in given.items()]
    if isinstance(given, _ONE) or not isinstance(given, Iterable) or isinstance(given, bytes | bytearray):
        return [_weighted(given)]
    if isinstance(given, tuple) and len(given) == 2 and not isinstance(given[1], (*_ONE, tuple)):
        return [_weighted(given)]
    return [_weighted(value) for value in given]


def _weighted(given: Any, name: str = "") -> One:
    if not isinstance(given, tuple):
        return One(one(given), name=name)
    if len(given) != 2:
        raise UsageError("a pair", got=f"`{shown(repr(given))}`", want="an adapter and its weight")
    return One(one(given[0]), given[1], name, bare=False)


def _name(key: object) -> str:
    if not isinstance(key, str) or not key:
        raise UsageError(f"`{shown(repr(key))}` is no name of an adapter", hint="give several as {name: adapter}")
    return key


def without_weights(given: Several, what: str) -> list[One]:
    """Several that are all meant alike. Raises `UsageError` for one with a weight."""
    found = several(given)
    heavy = next((each for each in found if not each.bare), None)
    if heavy is not None:
        raise UsageError(f"`{heavy.label}` has a weight, and {what}", hint="leave the weight out")
    return found


def by_name(given: Sequence[One]) -> dict[str, One]:
    """A name for each: what it was called, else what its file is called, as far as a part may be called so."""
    found: dict[str, One] = {}
    for each in given:
        called = Path(label(each.what)).absolute().name.split(".")[0].lower()
        stem = each.name or re.sub(r"[^a-z0-9_-]+", "-", called).strip("-_")[:60] or "adapter"
        name, number = stem, 2
        while name in found:
            name, number = f"{stem[:56]}-{number}", number + 1
        found[name] = each
    return found


def label(what: What) -> str:
    """What people call an adapter that was given."""
    return what.given if isinstance(what, Source) else what.label if isinstance(what, Adapter) else "expression"


def opened(given: Given, base: nn.Module | Path | None = None, tell: bool = True) -> Adapter:
    """The adapter that is given, whole for `base`; of an expression its `linear` composition.

    `tell`: warn of other weights in its folder.
    """
    return open_adapter(one(given), base, tell).adapter


def stacked(given: Several, base: Path) -> list[tuple[Adapter, weighting.Weight]]:
    """All of them with their weights, read for the checkpoint at `base`."""
    folder = base if base.is_dir() else None
    read = [(opened(each.what, folder, tell=False), each.weight) for each in several(given)]
    return [(adapter, weighting.checked(weight, adapter.label)) for adapter, weight in read]
