"""`shelf://NAME/REPOSITORY:TAG`: artifacts in folders that several machines mount, below the one in `ADAPTR_SHELF`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import UsageError
from adaptr.registry import layout, search
from adaptr.registry.layout import Layout
from adaptr.registry.local_files import LocalFile
from adaptr.registry.remotes import Found, Info, Progress, Pushed, Remote

if TYPE_CHECKING:
    from adaptr.registry.digest import Digest
    from adaptr.registry.reference import Reference
    from adaptr.registry.store import Store


class Shelf(Remote):
    """A repository is an OCI layout: `name/repository` below the shelf."""

    name = "shelf"

    def pull(self, reference: Reference, store: Store, progress: Progress | None = None) -> Digest:
        return _layout(reference).pull(reference, store, progress)

    def push(
        self, store: Store, digest: Digest, reference: Reference, progress: Progress | None = None, force: bool = False
    ) -> Pushed:
        new, known = layout.write(_folder(reference), store, digest, reference.tag, force, progress)
        return Pushed(reference.at(digest), digest, new, known)

    def resolve(self, reference: Reference) -> str:
        return _layout(reference).resolve(reference)

    def info(self, reference: Reference) -> Info:
        return _layout(reference).info(reference)

    def search(self, where: Reference, words: Sequence[str]) -> list[Found]:
        found = _layout(where).artifacts(lambda tag: str(replace(where, tag=tag, digest=None)))
        return search.fitting(found, words)


def _folder(reference: Reference) -> Path:
    shelf = os.environ.get("ADAPTR_SHELF")
    if not shelf:
        raise UsageError("`ADAPTR_SHELF` names no folder", hint="set it to where the shelf is mounted")
    return Path(shelf, reference.host.replace(":", "_"), reference.name)


def _layout(reference: Reference) -> Layout:
    folder = _folder(reference)
    return Layout(str(replace(reference, tag="", digest=None)), lambda name: LocalFile(folder / name))
