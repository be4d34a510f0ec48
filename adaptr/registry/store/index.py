"""`index.json`: the names of what is in the store. Written beside and renamed, under a lock, unknown fields kept."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
                raise StoreLocked(f"another process has held `{self.lock}` for {PATIENCE:.0f} seconds")
            yield

    def _document(self) -> dict[str, Any]:
        try:
            document = json_object(self.path.read_bytes(), f"`{self.path}`", BadManifest)
        except FileNotFoundError:
            document = {"schemaVersion": 2, "mediaType": terms.OCI_INDEX, "manifests": []}
        if not isinstance(document.get("manifests"), list):
            raise BadManifest(f"`{self.path}` has no list `manifests`")
        return document

    def _write(self, document: dict[str, Any]) -> None:
        beside = self.path.with_name(f".{FILE}.{os.getpid()}.{secrets.token_hex(4)}")
        with open(beside, "xb") as file:
            file.write(json.dumps(document, indent=1, ensure_ascii=False).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        sync(self.path.parent)


def name_of(entry: Descriptor) -> str:
    return entry.annotations.get(terms.REF_NAME, "")


def _with(entries: list[Descriptor], new: Descriptor) -> list[Descriptor]:
    same = [entry for entry in entries if entry.digest == new.digest]
    if not name_of(new) and any(name_of(entry) for entry in same):
        return entries
    gone = {id(entry) for entry in same if not name_of(entry)}
    gone |= {id(entry) for entry in entries if name_of(entry) and name_of(entry) == name_of(new)}
    return [*(entry for entry in entries if id(entry) not in gone), new]
