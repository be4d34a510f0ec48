"""Garbage collection: what no name leads to goes, once it is old enough that nobody can be in the middle of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adaptr.errors import IntegrityError, NotFound
from adaptr.registry.digest import Digest
from adaptr.registry.store.index import name_of
from adaptr.registry.store.ingest import older, seen
from adaptr.registry.store.layout import Store

DAY = 24 * 3600.0


@dataclass(frozen=True)
class Swept:
    """What went, or would go: blobs and their bytes, unfinished parts, folders of links, entries without a name."""

    blobs: tuple[str, ...]
    bytes: int
    parts: int
    views: int
    kept: int


def collect(store: Store, grace: float = DAY, dry: bool = False) -> Swept:
    """Remove blobs that no name needs and that nobody touched for `grace` seconds; `dry` only says which."""
    with store.index.locked():
        alive = _reachable(store)
        old = time.time() - grace
        dead = [
            path
            for path in _files(store.root / "blobs" / "sha256")
            if path.name not in alive and _idle(store, path, old)
        ]
        parts = [path for path in _all(store.root / "ingest") if older(path, old)]
        views = [path for path in _all(store.root / "views") if path.name not in alive]
        size = sum(found.st_size for path in dead if (found := seen(path)))
        if not dry:
            for path in (*dead, *parts, *views):
                _remove(path)
            for path in dead:
                (store.root / "stamps" / path.name).unlink(missing_ok=True)
            for path in _all(store.root / "locks"):
                if path.name != "index.lock" and older(path, old):
                    path.unlink(missing_ok=True)
    if not dry and dead:
        gone = {f"sha256:{path.name}" for path in dead}
        store.index.change(lambda entries: [entry for entry in entries if entry.digest not in gone])
    return Swept(tuple(f"sha256:{p.name}" for p in dead), size, len(parts), len(views), len(alive))


def _reachable(store: Store) -> set[str]:
    """The blobs that names lead to: manifests, their parts, and what refers to them."""
    entries = store.index.entries()
    alive: set[str] = set()
    queue: list[Digest] = [entry.digest for entry in entries if name_of(entry)]
    attached = {entry.digest: _subject(store, entry.digest) for entry in entries if not name_of(entry)}
    while queue:
        digest = queue.pop()
        if digest.hex in alive:
            continue
        alive.add(digest.hex)
        with contextlib.suppress(NotFound, IntegrityError):
            alive.update(blob.digest.hex for blob in store.manifest(digest).blobs)
        queue += [one for one, subject in attached.items() if subject == digest]
    return alive


def _subject(store: Store, digest: Digest) -> Digest | None:
    with contextlib.suppress(NotFound, IntegrityError):
        subject = store.manifest(digest).subject
        return None if subject is None else subject.digest
    return None


def _idle(store: Store, path: Path, old: float) -> bool:
    """Whether nobody has used a blob since `old`: its stamp is touched by whoever finds it there."""
    stamp = seen(store.root / "stamps" / path.name)
    return older(path, old) and (stamp is None or stamp.st_mtime < old)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in _all(folder) if not path.is_dir() or path.is_symlink())


def _all(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
