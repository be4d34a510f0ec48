"""OCI image layouts elsewhere: in a folder or on a static server, which makes a registry that is only read.

`oci-layout`, `index.json` and `blobs/sha256/`. Names are the index's `org.opencontainers.image.ref.name`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from adaptr.errors import DigestMismatch, NotFound, OutputExists, ReferenceMoved, phrases, shown
from adaptr.files.meter import Meter
from adaptr.registry import check, glance, manifest, terms
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.reference import LATEST
from adaptr.registry.remotes import Found, Info, Progress
from adaptr.registry.store import ingest
from adaptr.registry.store.index import FILE, Index, name_of
from adaptr.registry.store.layout import LAYOUT

if TYPE_CHECKING:
    from adaptr.registry.reference import Reference
    from adaptr.registry.store import Store

MARK = "oci-layout"


class Readable(Protocol):
    """A file, wherever it is: see `adaptr.registry.client.plain.File`."""

    def read(self, start: int = 0) -> AbstractContextManager[tuple[int, Iterator[bytes]]]: ...
    def whole(self, limit: int) -> bytes: ...
    def start(self, count: int) -> tuple[bytes, int]: ...


class Layout:
    """A layout that is read. `file` opens one of its files by its path in it; `where`: what people call it."""

    def __init__(self, where: str, file: Callable[[str], Readable]) -> None:
        self._where, self._file = where, file

    def resolve(self, reference: Reference) -> Digest:
        """The manifest that a reference names. Raises `NotFound`, saying what there is."""
        entries = self._entries()
        named = {name_of(entry): entry.digest for entry in entries if name_of(entry)}
        wanted = reference.digest
        if wanted is not None and any(entry.digest == wanted for entry in entries):
            return wanted
        if wanted is None and not reference.tag and len(set(named.values())) == 1:
            return next(iter(named.values()))
        found = named.get(reference.tag or LATEST) if wanted is None else None
        if found is None:
            names = ", ".join(f"`{shown(name)}`" for name in sorted(named)[:8]) or "none"
            raise NotFound(
                f"`{self._where}` has no `{wanted or reference.tag or LATEST}`", hint=f"names there: {names}"
            )
        return found

    def manifest(self, digest: Digest) -> Manifest:
        """A manifest, hashed. Raises `DigestMismatch`, `BadManifest`."""
        raw = self._file(_path(digest)).whole(manifest.MAX)
        if Digest.of(raw) != digest:
            raise DigestMismatch(
                f"`{self._where}` has something else than {digest} under that name", hint=phrases.FETCH
            )
        return manifest.parse(raw)

    def pull(self, reference: Reference, store: Store, progress: Progress | None) -> Digest:
        """Bring an artifact and what is attached to it into the store; what is there is not read again."""
        digest = self.resolve(reference)
        said = [self.manifest(digest), *self._attached(digest)]
        check.refuse_pickles(said[0])
        meter = Meter(sum(one.size for one in said), "pulling", progress)
        for one in said:
            for blob in one.blobs:
                store.fetch(blob, self._file(_path(blob.digest)).read, meter.add)
        check.require_sound(said[0], store)
        for one in said[1:]:
            store.put(one)
        return store.put(said[0], "", str(reference.at(digest)))

    def info(self, reference: Reference) -> Info:
        """What an artifact is, by its manifest and the header of its weights."""
        found = self.manifest(self.resolve(reference))
        files = found.files()
        weights = [layer for name, layer in files.items() if name.endswith(".safetensors")]
        header = b""
        if len(weights) == 1:
            file = self._file(_path(weights[0].digest))
            header = glance.header(lambda count: file.start(count)[0], weights[0].size, str(reference))
        sizes = {name: layer.size for name, layer in files.items()}
        return Info(reference, str(found.digest), found, header, sizes)

    def artifacts(self, called: Callable[[str], str]) -> list[Found]:
        """All that have a name; `called` makes a reference of one."""
        named = [(called(name_of(entry)), self.manifest(entry.digest)) for entry in self._entries() if name_of(entry)]
        return [
            Found(name, one.digest, one.annotations.get(terms.DESCRIPTION, ""), one.annotations) for name, one in named
        ]

    def _entries(self) -> tuple[Descriptor, ...]:
        return manifest.parse_index(self._file(FILE).whole(manifest.MAX))

    def _attached(self, digest: Digest) -> list[Manifest]:
        """Signatures and the like: entries without a name that say they are about this one."""
        nameless = [entry for entry in self._entries() if not name_of(entry) and entry.digest != digest]
        found = [self.manifest(entry.digest) for entry in nameless]
        return [one for one in found if one.subject is not None and one.subject.digest == digest]


def write(
    root: Path, store: Store, digest: Digest, tag: str, force: bool, progress: Progress | None
) -> tuple[int, int]:
    """Write an artifact and its attachments into the layout at `root`, made if it is not there.

    Returns the bytes that are new there, and those that were there. Raises `OutputExists` for a folder with something
    else in it, `ReferenceMoved` for a tag that names another artifact, unless `force`.
    """
    _require_layout(root)
    index = Index(root, root / ".lock")
    _require_free(index, tag, digest, force)
    said = [store.manifest(digest), *store.referrers(digest)]
    meter = Meter(sum(one.size for one in said), "pushing", progress)
    new = 0
    for one in said:
        for blob in (*one.blobs, one.descriptor):
            new += _copied(root, store, blob.digest)
            meter.add(blob.size)
    for one in said[1:]:
        index.add(one.descriptor)
    index.add(replace(said[0].descriptor, annotations={terms.REF_NAME: tag}))
    return new, sum(one.size + len(one.raw) for one in said) - new


def _copied(root: Path, store: Store, digest: Digest) -> int:
    """Copy a blob into a layout; returns its size, 0 if it was there."""
    target = root / _path(digest)
    if target.is_file():
        return 0
    part = ingest.Part(root, digest.hex)
    try:
        with open(store.path(digest), "rb") as file:
            while data := file.read(ingest.CHUNK):
                part.write(data)
        if part.digest != digest:
            raise DigestMismatch(
                f"{digest} changed in the store while it was read",
                hint="`adaptr verify --repair` finds and mends what is damaged",
            )
        part.become(target)
    finally:
        part.drop()
    return part.size


def _require_layout(root: Path) -> None:
    if (root / MARK).is_file():
        return
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise OutputExists(
            f"`{root}` is there and is no OCI layout", hint=f"name a new folder, or one with `{MARK}` in it"
        )
    (root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    (root / MARK).write_bytes(LAYOUT)


def _require_free(index: Index, tag: str, digest: Digest, force: bool) -> None:
    there = {name_of(entry): entry.digest for entry in index.entries()}
    if not force and there.get(tag, digest) != digest:
        raise ReferenceMoved(f"`{tag}` in `{index.path.parent}` is {there[tag]} already", hint="move it with `--force`")


def _path(digest: Digest) -> str:
    return os.path.join("blobs", "sha256", digest.hex)
