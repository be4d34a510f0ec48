"""Search: in this machine's store, and in the index that a namespace publishes of what it holds.

OCI registries can't be searched. `build` reads what they have and publishes one JSON document about it; who searches
fetches that, and looks through it here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.errors import BadManifest, NotFound, shown
from adaptr.format import canonical
from adaptr.registry import manifest as manifests
from adaptr.registry import terms
from adaptr.registry.manifest import EMPTY, Descriptor, Manifest
from adaptr.registry.reference import Reference
from adaptr.registry.remotes import Found
from adaptr.untrusted import json_object

if TYPE_CHECKING:
    from adaptr.registry.client.registry import Registry
    from adaptr.registry.store import Store

#: The longest index that is read, in bytes.
MAX = 64 << 20
VERSION = 1
FILE = "index.json"
#: What is looked through besides the reference.
FIELDS = (
    terms.KIND, terms.METHOD, terms.BASE_MODEL, terms.TITLE, terms.DESCRIPTION, terms.LICENSES, terms.FORMAT,
    terms.VERSION,
)  # fmt: skip


@dataclass(frozen=True)
class Built:
    """An index document: the artifacts in it, and how many tags were left out, which hold something else."""

    artifacts: tuple[Found, ...]
    skipped: int


def place(where: Reference) -> Reference:
    """Where the index of a namespace is: in the repository `adaptr-index` in it."""
    name = where.name.removesuffix(f"/{terms.INDEX_TAG}")
    return Reference("oci", where.host, f"{name}/{terms.INDEX_TAG}", terms.INDEX_TAG)


def fitting(found: Iterable[Found], words: Sequence[str]) -> list[Found]:
    """Those that have all words somewhere, whatever their case; first those that have them in the reference."""

    def text(one: Found) -> str:
        return " ".join((one.reference, one.summary, *(one.annotations.get(key, "") for key in FIELDS))).lower()

    wanted = [word.lower() for word in words]
    fit = [one for one in found if all(word in text(one) for word in wanted)]
    return sorted(fit, key=lambda one: (not all(word in one.reference.lower() for word in wanted), one.reference))


def in_store(store: Store) -> list[Found]:
    """What the store has, by name."""
    return [_found(entry.name, entry.digest, entry.annotations) for entry in store.names()]


def gathered(registry: Registry, namespace: str, repositories: Sequence[str]) -> Built:
    """What is in a namespace, or in these of its repositories: every tag's manifest is read."""
    from adaptr.registry.client import lists

    names = [f"{namespace}/{name}" for name in repositories] or lists.repositories(registry, namespace)
    found, skipped = [], 0
    for name in names:
        if name == place(Reference("oci", "", namespace)).name:
            continue
        for tag in lists.tags(registry, name):
            one = _read(registry, Reference("oci", registry.host, name, tag))
            found += [one] if one else []
            skipped += one is None
    return Built(tuple(sorted(found, key=lambda one: one.reference)), skipped)


def _read(registry: Registry, reference: Reference) -> Found | None:
    """An artifact by its manifest; None for what is none, such as an image, or went away in between."""
    try:
        found = manifests.parse(*registry.manifest(reference.name, reference.tag))
    except (BadManifest, NotFound):
        return None
    if found.artifact_type != terms.MODEL_ARTIFACT and terms.KIND not in found.annotations:
        return None
    return _found(str(reference), found.digest, found.annotations)


def _found(reference: str, digest: str, annotations: Mapping[str, str]) -> Found:
    return Found(reference, digest, annotations.get(terms.DESCRIPTION, ""), dict(annotations))


def stored(built: Built, store: Store) -> Manifest:
    """Put an index document into the store, as an artifact; the same artifacts make the same bytes."""
    rows = [
        {"reference": one.reference, "digest": one.digest, "annotations": dict(one.annotations)}
        for one in built.artifacts
    ]
    raw = canonical.dumps({"version": VERSION, "artifacts": rows}).encode()
    said = {terms.TITLE: FILE, terms.FILEPATH: FILE}
    layer = Descriptor(terms.INDEX_ARTIFACT, store.add_bytes(raw), len(raw), said)
    config = Descriptor(terms.OCI_EMPTY, store.add_bytes(EMPTY), len(EMPTY))
    notes = {terms.SPEC_VERSION: terms.SPEC, terms.KIND: terms.INDEX}
    return Manifest.make(config, [layer], terms.INDEX_ARTIFACT, notes)


def read(manifest: Manifest, store: Store) -> list[Found]:
    """The artifacts of an index that is in the store. Raises `BadManifest`."""
    layer = next((layer for layer in manifest.layers if layer.media_type == terms.INDEX_ARTIFACT), None)
    if layer is None:
        raise BadManifest(f"{manifest.digest} is not an index of artifacts", hint="make one with `adaptr index`")
    document = json_object(store.read(layer.digest, MAX), "the index", BadManifest)
    rows = document.get("artifacts")
    if document.get("version") != VERSION or not isinstance(rows, list):
        raise BadManifest(
            "the index",
            verb="has",
            got=f"version {shown(document.get('version'))}",
            want=f"{VERSION}",
            hint="make it again with this adaptr",
        )
    return [_row(row) for row in rows]


def _row(row: object) -> Found:
    said = row if isinstance(row, dict) else {}
    annotations = said.get("annotations")
    told = isinstance(annotations, dict) and [said.get("reference"), said.get("digest"), *annotations.values()]
    if not isinstance(annotations, dict) or not told or not all(isinstance(text, str) for text in told):
        raise BadManifest(
            "the index has an entry without `reference`, `digest` and `annotations`", hint="make it again"
        )
    return _found(said["reference"], said["digest"], annotations)
