"""Where the adapter is that a digest names: in the store, or beside what was made of it.

A digest names a file, or the weights of an adapter in whatever format it lies. Files are hashed once, and only those of
folders that were asked for; the weights of what is in the store only if nothing else was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adaptr.errors import AdaptrError
from adaptr.foreign.seen import CONFIG, is_adaptr
from adaptr.format import digest as digests
from adaptr.merging import receipt
from adaptr.registry import terms
from adaptr.registry.digest import Digest
from adaptr.registry.store import Store
from adaptr.sources.open import open_adapter

#: Adapters beside a child that are hashed to find its parents.
BESIDE = 64
STORE = "store"


@dataclass
class Search:
    """`places`: digest to where it was found. `looked`: folders that were hashed, None for the store. `known`: the
    digests of files.
    """

    store: Store | None
    places: dict[str, Path] = field(default_factory=dict)
    looked: set[Path | None] = field(default_factory=set)
    known: dict[Path, list[str]] = field(default_factory=dict)

    def find(self, wanted: Iterable[str], beside: Sequence[Path]) -> tuple[Path | None, str]:
        """The path of an adapter that one of these digests names, and how people find it: `store`, its path or "".

        The first digest counts most: a copy that has the weights does not stand before the file itself.
        """
        names = [digest for digest in wanted if digest]
        for digest in names:
            if self.store is not None and self.store.has(Digest(digest)):
                return self._stored(Digest(digest)), STORE
        for folder in beside:
            if names and names[0] not in self.places:
                self._look(folder)
        found = next((self.places[digest] for digest in names if digest in self.places), None)
        if found is None:
            found = self._in_store(names)
        if found is None:
            return None, ""
        return found, STORE if self._is_view(found) else str(found)

    def _look(self, folder: Path) -> None:
        if folder in self.looked or not folder.is_dir():
            return
        self.looked.add(folder)
        for place in list(_adapters(folder))[:BESIDE]:
            self._add(place)

    def _add(self, place: Path) -> None:
        try:
            found = open_adapter(place, tell=False)
            file = found.file or place
            if file not in self.known:  # a folder and its file may both be looked at
                self.known[file] = [found.digest, digests.of_adapter(found.adapter)]
            known = self.known[file]
        except AdaptrError:  # a file of another tool, alone
            known = [digests.of_file(place)] if place.is_file() else []
        for digest in known:
            self.places.setdefault(digest, place)

    def _stored(self, digest: Digest) -> Path:
        """A blob, or the folder of the artifact that it belongs to: alone it may not say what it is."""
        assert self.store is not None
        blob = self.store.path(digest)
        if is_adaptr(blob):
            return blob
        for owner in self._artifacts():
            if any(layer.digest == digest for layer in self.store.manifest(owner).files().values()):
                return self.store.view(owner)
        return blob

    def _in_store(self, names: Sequence[str]) -> Path | None:
        if self.store is not None and None not in self.looked:
            self.looked.add(None)
            for digest in self._artifacts():
                self._add(self.store.view(digest))
        return next((self.places[name] for name in names if name in self.places), None)

    def _artifacts(self) -> Iterator[Digest]:
        """The adapters in the store, by the digests of their manifests."""
        assert self.store is not None
        seen = {entry.digest: entry for entry in self.store.names()}
        yield from (d for d, entry in seen.items() if entry.annotations.get(terms.KIND) != terms.MODEL)

    def _is_view(self, path: Path) -> bool:
        return self.store is not None and path.is_relative_to(self.store.root)


def _adapters(folder: Path) -> Iterator[Path]:
    """What may be an adapter in a folder: files, and folders of adaptr or another tool."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            receipts = (path / receipt.FILE).is_file()  # searched by who knows of them
            if not receipts and ((path / CONFIG).is_file() or next(path.glob("*.adaptr.safetensors"), None)):
                yield path
        elif path.suffix == ".safetensors" and path.is_file():
            yield path
