"""`index.json`: the names of what is in the store. Written beside and renamed, under a lock, unknown fields kept."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaptr.errors import BadManifest, StoreLocked
from adaptr.registry import terms
from adaptr.registry.manifest import Descriptor, descriptor
from adaptr.registry.store import locks
from adaptr.registry.store.ingest import sync
from adaptr.untrusted import json_object

FILE = "index.json"
#: Seconds that another process may take to write an index.
PATIENCE = 60.0


class Index:
    """The index of the layout in `root`. `lock`: the file that writers hold."""

    def __init__(self, root: Path, lock: Path | None = None) -> None:
        self.path, self.lock = root / FILE, lock or root / "locks" / "index.lock"

    def entries(self) -> list[Descriptor]:
        """All entries, named or not. Raises `BadManifest`."""
        return [descriptor(entry, FILE) for entry in self._document()["manifests"]]

    def change(self, change: Callable[[list[Descriptor]], list[Descriptor]]) -> None:
        """Replace the entries by what `change` makes of them, while nobody else does. Raises `StoreLocked`."""
        with self.locked():
            document = self._document()
            before = [descriptor(entry, FILE) for entry in document["manifests"]]
            kept = {id(entry): raw for entry, raw in zip(before, document["manifests"], strict=True)}
            after = change(before)
            document["manifests"] = [kept.get(id(entry)) or entry.document() for entry in after]
            self._write(document)

    def add(self, entry: Descriptor) -> None:
        """Put an entry in. It takes its name from another; without a name it is only there while it has none."""
        self.change(lambda entries: _with(entries, entry))

    @contextmanager
    def locked(self) -> Iterator[None]:
        with locks.held(self.lock, PATIENCE) as mine:
            if not mine and locks.honoured(self.lock):
                raise StoreLocked(
                    f"another process has held `{self.lock}` for {PATIENCE:.0f} seconds",
                    hint="wait until it has ended, or end it",
                )
            yield

    def _document(self) -> dict[str, Any]:
        try:
            document = json_object(self.path.read_bytes(), f"`{self.path}`", BadManifest)
        except FileNotFoundError:
            document = {"schemaVersion": 2, "mediaType": terms.OCI_INDEX, "manifests": []}
        if not isinstance(document.get("manifests"), list):
            raise BadManifest(
                f"`{self.path}` has no list `manifests`", hint="`adaptr verify` says what else of the store is damaged"
            )
        return document

    def _write(self, document: dict[str, Any]) -> None:
        beside = self.path.with_name(f".{FILE}.{os.getpid()}.{secrets.token_hex(4)}")
        with open(beside, "xb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(json.dumps(document, indent=1, ensure_ascii=False).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        sync(self.path.parent)


def name_of(entry: Descriptor) -> str:
    return entry.annotations.get(terms.REF_NAME, "")


def origins(entries: Iterable[Descriptor]) -> tuple[str, ...]:
    """The places that entries say their artifact came from, each once."""
    said = (e.annotations.get(key, "") for e in entries for key in (terms.REFERENCE, terms.ORIGINS))
    return tuple(dict.fromkeys(one for text in said for one in text.split()))


def without_name(entries: list[Descriptor], names: Collection[str]) -> list[Descriptor]:
    """The entries without those of these names. Where an artifact came from is still known as long as it is here."""
    found: list[Descriptor] = []
    for entry in entries:
        if name_of(entry) not in names:
            found.append(entry)
        elif origins([entry]):
            found = _with(found, replace(entry, annotations=_but_name(entry)))
    return found


def _but_name(entry: Descriptor) -> dict[str, str]:
    return {key: value for key, value in entry.annotations.items() if key != terms.REF_NAME}


def _with(entries: list[Descriptor], new: Descriptor) -> list[Descriptor]:
    same = [entry for entry in entries if entry.digest == new.digest]
    known = origins([new, *same])
    if not name_of(new) and any(name_of(entry) for entry in same):
        first = next(entry for entry in same if name_of(entry))
        return [_from(entry, known) if entry is first else entry for entry in entries]
    gone = {id(entry) for entry in same if not name_of(entry)}
    moved = [entry for entry in entries if name_of(entry) and name_of(entry) == name_of(new)]
    kept = [entry for entry in entries if id(entry) not in gone | {id(entry) for entry in moved}]
    for entry in moved:  # the name goes to another artifact, where this one came from does not
        if entry.digest != new.digest and origins([entry]):
            kept = _with(kept, replace(entry, annotations=_but_name(entry)))
    return [*kept, _from(new, known)]


def _from(entry: Descriptor, known: tuple[str, ...]) -> Descriptor:
    """The entry, which tells all places that its artifact is known to have come from."""
    if set(known) <= set(origins([entry])):
        return entry
    return replace(entry, annotations={**entry.annotations, terms.ORIGINS: " ".join(known)})
