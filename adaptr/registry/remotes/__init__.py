"""Remotes: what carries artifacts, one a scheme. Built-in ones are the files here; others come by the entry-point group
`adaptr.remotes`, whose name is the scheme and whose value is the class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.discovery import Sort
from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from adaptr.registry.digest import Digest
    from adaptr.registry.manifest import Manifest
    from adaptr.registry.reference import Reference
    from adaptr.registry.store import Store

#: progress(done, total, what), in bytes.
Progress = Callable[[int, int, str], None]

SORT = Sort("remote", "adaptr.registry.remotes", "adaptr.remotes", "`adaptr pull --help`")


@dataclass(frozen=True)
class Pushed:
    """Where an artifact is now. `uploaded`, `skipped`: bytes sent, and bytes that were there already."""

    reference: Reference
    digest: Digest
    uploaded: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Info:
    """What is known of an artifact without pulling it. `header`: the JSON that starts the adapter's file, if there is
    one; `files`: name to bytes; `revision`: what a moving name stood for; `annotations`: what is said of it
    where there is no manifest.
    """

    reference: Reference
    digest: str
    manifest: Manifest | None
    header: bytes
    files: Mapping[str, int]
    revision: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """One answer of a search."""

    reference: str
    digest: str = ""
    summary: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


class Remote:
    """A remote; what it does not override it can't do.

    All methods raise `NotFound`, `AuthError`, `TransferError`, and `IntegrityError` and its kin for content that is not
    what its digest says.
    """

    #: The scheme, which is also the file's and the entry point's name.
    name: ClassVar[str] = ""
    #: Whether the scheme alone, `hf://`, names all that it has, to be searched.
    whole: ClassVar[bool] = False

    def pull(self, reference: Reference, store: Store, progress: Progress | None = None) -> Digest:
        """Bring an artifact into the store, verified; returns its manifest's digest. Does not name it."""
        raise self._cannot("pulled from")

    def push(
        self, store: Store, digest: Digest, reference: Reference, progress: Progress | None = None, force: bool = False
    ) -> Pushed:
        """Send an artifact of the store. Raises `ReferenceMoved` for a tag that names another one, unless `force`."""
        raise self._cannot("pushed to")

    def resolve(self, reference: Reference) -> str:
        """What the reference names now: a manifest digest, or a commit on the Hub. Asks the network."""
        raise self._cannot("resolved at")

    def info(self, reference: Reference) -> Info:
        """What an artifact is, by one small read of its adapter's header."""
        raise self._cannot("looked at in")

    def search(self, where: Reference, words: Sequence[str]) -> list[Found]:
        """Artifacts that fit all words."""
        raise self._cannot("searched in")

    def _cannot(self, what: str) -> Unsupported:
        return Unsupported(f"nothing can be {what} `{self.name}://`", hint="`oci://` and `file://` can do all")


def of(scheme: str) -> Remote:
    """The remote of a scheme. Raises `UsageError`, with near names."""
    found: Any = SORT.load(scheme, Remote)
    remote: Remote = found
    return remote
