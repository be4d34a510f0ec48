"""Is every blob still what its name says? All are hashed again; what is not can be fetched once more."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from adaptr.errors import AdaptrError, NotFound
from adaptr.registry import remotes
from adaptr.registry.digest import Digest
from adaptr.registry.store.index import name_of
from adaptr.registry.store.layout import Store


@dataclass(frozen=True)
class Finding:
    """Something wrong with an artifact: the blob, what is wrong with it, and whether it was mended."""

    name: str
    digest: str
    what: str
    mended: bool = False


@dataclass(frozen=True)
class Health:
    """How the store is. `blobs` and `bytes` were read; `stray` blobs were damaged and belonged to no name."""

    blobs: int
    bytes: int
    findings: tuple[Finding, ...]
    stray: int

    @property
    def ok(self) -> bool:
        return all(finding.mended for finding in self.findings)


def examined(store: Store, repair: bool = False) -> Health:
    """Hash everything again. `repair`: remove what is damaged and pull it again from where it came."""
    blobs = sorted((store.root / "blobs" / "sha256").iterdir())
    size = sum(path.lstat().st_size for path in blobs)
    bad = {f"sha256:{path.name}" for path in blobs if not _right(path)}
    if repair:
        for digest in bad:
            _drop(store, digest)
    names = _broken(store, bad)
    findings = [
        Finding(name, digest, what, repair and _mended(store, name, whole))
        for name, (whole, wrong) in names.items()
        for digest, what in wrong
    ]
    told = {finding.digest for finding in findings}
    return Health(len(blobs), size, tuple(findings), len(bad - told))


def _right(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.name


def _drop(store: Store, digest: str) -> None:
    name = digest.removeprefix("sha256:")
    (store.root / "blobs" / "sha256" / name).unlink(missing_ok=True)
    (store.root / "stamps" / name).unlink(missing_ok=True)


def _broken(store: Store, bad: set[str]) -> dict[str, tuple[Digest, list[tuple[str, str]]]]:
    """Name to (its manifest, [(blob, what is wrong)]), for the names that have something wrong."""
    found = {}
    for entry in store.index.entries():
        name = name_of(entry) or f"attachment {entry.digest.short}"
        wrong = _wrong(store, entry.digest, bad)
        if wrong:
            found[name] = (entry.digest, wrong)
    return found


def _wrong(store: Store, digest: Digest, bad: set[str]) -> list[tuple[str, str]]:
    if digest in bad or not store.has(digest):
        return [(digest, "damaged" if digest in bad else "missing")]
    blobs = {blob.digest for blob in store.manifest(digest).blobs}
    return [
        (blob, "damaged" if blob in bad else "missing") for blob in sorted(blobs) if blob in bad or not store.has(blob)
    ]


def _mended(store: Store, name: str, digest: Digest) -> bool:
    """Pull an artifact again from where it came; False where that is not known or fails."""
    reference = store.reference_of(digest)
    if reference is None:
        return False
    try:
        pulled = remotes.of(reference.scheme).pull(reference, store)
    except (AdaptrError, NotFound):
        return False
    return pulled == digest
