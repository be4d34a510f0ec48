"""Artifacts as others may have packed them."""

from __future__ import annotations

from pathlib import Path

from adaptr import errors as e
from adaptr.registry import terms
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor
from adaptr.registry.reference import parse
from adaptr.registry.remotes import of
from adaptr.registry.store import Store
from registry.conftest import enveloped, layer


def with_a_file_called(store: Store, files: dict[str, bytes], name: str) -> Digest | None:
    """An artifact in which one more file has this name, whatever it is."""
    layers = [layer(store, called, data) for called, data in files.items()]
    evil = Descriptor(terms.CONFIG_LAYER, store.add_bytes(b"{}"), 2, {terms.TITLE: name})
    try:
        return store.put(enveloped(store, [*layers, evil], {}))
    except e.IntegrityError:
        return None


def laid_out(store: Store, digest: Digest, root: Path) -> None:
    of("file").push(store, digest, parse(f"file://{root}#v1"))
