"""`https://`: one adaptr file with a pinned digest, or an OCI layout on a static server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptr.errors import PolicyError
from adaptr.files.meter import Meter
from adaptr.registry import glance, pack, terms
from adaptr.registry.client.plain import File
from adaptr.registry.digest import Digest
from adaptr.registry.layout import Layout
from adaptr.registry.manifest import Descriptor
from adaptr.registry.remotes import Found, Info, Progress, Remote

if TYPE_CHECKING:
    from adaptr.registry.reference import Reference
    from adaptr.registry.store import Store


class Https(Remote):
    """Any web server. A path that ends in `/` is a layout, any other one file."""

    name = "https"

    def pull(self, reference: Reference, store: Store, progress: Progress | None = None) -> Digest:
        """Bring the artifact into the store. Raises `PolicyError` for a file without a digest."""
        self.require_allowed(reference)
        if _is_layout(reference):
            return _layout(reference).pull(reference, store, progress)
        digest, file = _pinned(reference), File(_url(reference))
        size = store.path(digest).stat().st_size if store.has(digest) else file.start(1)[1]
        store.fetch(Descriptor(terms.OCTETS, digest, size), file.read, Meter(size, "pulling", progress).add)
        return store.put(pack.single(digest, size, store, str(reference)), "", str(reference.at(digest)))

    def resolve(self, reference: Reference) -> str:
        """The manifest's digest in a layout; the file's own, which is read through if it has no pin and need not."""
        self.require_allowed(reference)
        if _is_layout(reference):
            return _layout(reference).resolve(reference)
        if reference.digest is not None or not _unpinned_allowed():
            return _pinned(reference)
        return _hashed(reference)

    def info(self, reference: Reference) -> Info:
        self.require_allowed(reference)
        if _is_layout(reference):
            return _layout(reference).info(reference)
        file, name = File(_url(reference)), reference.name.rpartition("/")[2]
        size = file.start(1)[1]
        header = glance.header(lambda count: file.start(count)[0], size, str(reference))
        return Info(reference, str(reference.digest or ""), None, header, {name: size})

    def search(self, where: Reference, words: Sequence[str]) -> list[Found]:
        """Artifacts in an OCI layout, by its index."""
        from adaptr.registry import search

        self.require_allowed(where)
        found = _layout(where).artifacts(lambda name: str(replace(where, tag=name, digest=None)))
        return search.fitting(found, words)

    def require_allowed(self, reference: Reference) -> None:
        """Raises `PolicyError` for what is not asked without TLS."""


def _is_layout(reference: Reference) -> bool:
    return reference.name.endswith("/") or bool(reference.tag)


def _layout(reference: Reference) -> Layout:
    root = _url(reference).removesuffix("/")
    return Layout(root, lambda name: File(f"{root}/{name}"))


def _url(reference: Reference) -> str:
    return str(replace(reference, tag="", digest=None))


def _unpinned_allowed() -> bool:
    return os.environ.get("ADAPTR_ALLOW_UNPINNED", "") not in {"", "0"}


def _pinned(reference: Reference) -> Digest:
    if reference.digest is None:
        raise PolicyError(
            f"`{reference}` does not say what must be there",
            hint=(
                f"add the file's digest (`{reference}#sha256=...`), or, to "
                "take whatever is there now, set `ADAPTR_ALLOW_UNPINNED=1` and pin it with `--lock`"
            ),
        )
    return reference.digest


def _hashed(reference: Reference) -> Digest:
    found = hashlib.sha256()
    with File(_url(reference)).read() as (_, chunks):
        for chunk in chunks:
            found.update(chunk)
    return Digest(f"sha256:{found.hexdigest()}")
