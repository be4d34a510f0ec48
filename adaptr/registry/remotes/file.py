"""`file://`: an adapter in a folder or file here, or an OCI layout, which is also written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import DigestMismatch, NotFound, phrases
from adaptr.registry import layout, pack
from adaptr.registry.layout import Layout
from adaptr.registry.local_files import LocalFile
from adaptr.registry.reference import LATEST
from adaptr.registry.remotes import Found, Info, Progress, Pushed, Remote

if TYPE_CHECKING:
    from adaptr.registry.digest import Digest
    from adaptr.registry.manifest import Manifest
    from adaptr.registry.reference import Reference
    from adaptr.registry.store import Store


class Local(Remote):
    """This machine's files."""

    name = "file"

    def pull(self, reference: Reference, store: Store, progress: Progress | None = None) -> Digest:
        """Copy an artifact into the store: what happens to the files later changes nothing there."""
        if _is_layout(reference):
            return _layout(reference).pull(reference, store, progress)
        manifest = _packed(reference, store)
        return store.put(manifest, "", str(reference.at(manifest.digest)))

    def push(
        self, store: Store, digest: Digest, reference: Reference, progress: Progress | None = None, force: bool = False
    ) -> Pushed:
        """Write an artifact into a layout, made if it is not there."""
        tag = reference.tag or LATEST
        new, known = layout.write(Path(reference.name), store, digest, tag, force, progress)
        return Pushed(reference.at(digest), digest, new, known)

    def resolve(self, reference: Reference) -> str:
        from adaptr.registry.store import Store

        if _is_layout(reference):
            return _layout(reference).resolve(reference)
        return _packed(reference, Store.default()).digest

    def info(self, reference: Reference) -> Info:
        from adaptr.registry import glance
        from adaptr.registry.store import Store

        if _is_layout(reference):
            return _layout(reference).info(reference)
        store = Store.default()
        manifest = _packed(reference, store)
        files = manifest.files()
        weights = [layer for name, layer in files.items() if name.endswith(".safetensors")]
        file = LocalFile(store.path(weights[0].digest))
        header = glance.header(lambda count: file.start(count)[0], weights[0].size, reference.name)
        sizes = {name: layer.size for name, layer in files.items()}
        return Info(reference, manifest.digest, manifest, header if len(weights) == 1 else b"", sizes)

    def search(self, where: Reference, words: Sequence[str]) -> list[Found]:
        """Artifacts in an OCI layout, by its index."""
        from adaptr.registry import search

        found = _layout(where).artifacts(lambda name: str(replace(where, tag=name, digest=None)))
        return search.fitting(found, words)


def _is_layout(reference: Reference) -> bool:
    return bool(reference.tag) or (Path(reference.name) / layout.MARK).is_file()


def _layout(reference: Reference) -> Layout:
    root = Path(reference.name)
    if not (root / layout.MARK).is_file():
        raise NotFound(f"there is no OCI layout at `{root}`", hint="look at the path; pushing there makes one")
    return Layout(f"file://{reference.name}", lambda name: LocalFile(root / name))


def _packed(reference: Reference, store: Store) -> Manifest:
    """The manifest of an adapter here. Raises `DigestMismatch` where the reference wants another one."""
    if not Path(reference.name).exists():
        raise NotFound(
            f"there is nothing at `{reference.name}`", hint=phrases.near(reference.name) or "look at the path"
        )
    manifest = pack.stored(Path(reference.name), store)
    own = {layer.digest for layer in manifest.layers} if len(manifest.layers) == 1 else set()
    if reference.digest not in {None, manifest.digest, *own}:
        raise DigestMismatch(
            f"`{reference.name}`",
            got=f"{manifest.digest} now",
            want=f"{reference.digest}",
            hint="leave the digest out to take what is there now",
        )
    return manifest
