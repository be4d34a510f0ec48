"""Finding artifacts, and publishing what a namespace has so that it can be found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adaptr.errors import UsageError
from adaptr.registry import remotes
from adaptr.registry import search as indexes
from adaptr.registry.reference import parse
from adaptr.registry.remotes import Found
from adaptr.registry.store import Store
from adaptr.report import Report
from adaptr.sources.resolve import Place, namespace


@dataclass(frozen=True)
class Answers(Report):
    """What fits the words. `where`: what was searched, "" for the store."""

    where: str
    words: tuple[str, ...]
    found: tuple[Found, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Published:
    """An index that was pushed. `skipped`: tags that hold something else."""

    reference: str
    digest: str
    artifacts: int
    repositories: int
    skipped: int

    def as_dict(self) -> Mapping[str, Any]:
        return asdict(self)


def search(words: str | Sequence[str], where: Place = "") -> Answers:
    """Artifacts that fit all words: in the store, or in what `where` names: the Hub, an index, a layout. Raises
    `BadReference` for a place that can't be searched, `NotFound` and `TransferError` for one that does not answer.
    """
    words = words.split() if isinstance(words, str) else tuple(words)
    if not where:
        found = indexes.fitting(indexes.in_store(Store.default()), words)
    else:
        place = namespace(where)
        found = remotes.of(place.scheme).search(place, words)
    return Answers(str(where), tuple(words), tuple(found))


def build(where: str, repositories: Sequence[str] = ()) -> Published:
    """Publish what a namespace of a registry has. `repositories`: names in it, for registries that don't tell."""
    from adaptr.registry.client.registry import connected

    place = namespace(where)
    if place.scheme != "oci":
        raise UsageError(f"`{where}` is no namespace of a registry", want="`oci://host/namespace`")
    store = Store.default()
    built = indexes.gathered(connected(place.host), place.name, repositories)
    digest = store.put(indexes.stored(built, store))
    pushed = remotes.of("oci").push(store, digest, indexes.place(place))
    names = {parse(one.reference).name for one in built.artifacts}
    return Published(str(pushed.reference), digest, len(built.artifacts), len(names), built.skipped)
