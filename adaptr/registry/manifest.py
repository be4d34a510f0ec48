"""OCI image manifests 1.1: read strictly, written canonically, so that the same content has the same digest."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from adaptr.errors import BadManifest, IntegrityError, RefusedMediaType, shown
from adaptr.format import canonical
from adaptr.registry import names, terms
from adaptr.registry.digest import Digest
from adaptr.untrusted import json_object

#: What a registry must take at least, so nobody pushes more (distribution-spec, "Pushing Manifests").
MAX = 4 * 1024 * 1024
#: The empty JSON object that stands for "no config".
EMPTY = b"{}"
#: Archives are never unpacked: all ways to write outside a target go through one.
_ORAS_FILE, _ORAS_UNPACK = "application/vnd.oci.image.layer.v1.tar", "io.deis.oras.content.unpack"
_ARCHIVE_NAMES = (".tar", ".gz", ".tgz", ".zst", ".zip", ".xz", ".bz2", ".7z", ".rar", ".whl", ".egg", ".jar", ".lzma")
_ARCHIVES = ("tar", "zip", "zstd", "7z", "rar", "bz2", "bzip", "xz", "lzma", "compress", "cpio", "archive", "iso9660")
#: The way on where somebody else made the manifest.
_AGAIN = "ask its owner to push it again"
#: The most layers that an artifact may have: a model in thousands of shards has fewer.
MAX_LAYERS = 4096


@dataclass(frozen=True)
class Descriptor:
    """What names a blob: type, digest and size in bytes, and what is said about it."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    data: bytes | None = None

    @property
    def title(self) -> str:
        """The file's name, "" without one. Raises `UnsafeName`, also where two annotations disagree."""
        said = {self.annotations[key] for key in (terms.TITLE, terms.FILEPATH) if key in self.annotations}
        if len(said) > 1:
            raise BadManifest(f"a layer is called both `{shown(min(said))}` and `{shown(max(said))}`", hint=_AGAIN)
        return names.require(said.pop()) if said else ""

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        if self.data is not None:
            found["data"] = base64.b64encode(self.data).decode()
        return found


@dataclass(frozen=True)
class Manifest:
    """An artifact: its parts and what is said of it. `raw` are the very bytes that the digest names."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str
    annotations: Mapping[str, str]
    subject: Descriptor | None
    raw: bytes
    media_type: str = terms.OCI_MANIFEST

    @classmethod
    def make(
        cls,
        config: Descriptor,
        layers: Iterable[Descriptor],
        artifact_type: str,
        annotations: Mapping[str, str],
        subject: Descriptor | None = None,
    ) -> Manifest:
        """A manifest of these parts, as canonical JSON (RFC 8785)."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": terms.OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": config.document(),
            "layers": [layer.document() for layer in layers],
        }
        if annotations:
            document["annotations"] = dict(annotations)
        if subject is not None:
            document["subject"] = subject.document()
        return parse(canonical.dumps(document).encode())

    @property
    def digest(self) -> Digest:
        return Digest.of(self.raw)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.raw), {}, self.artifact_type)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers: what must be there before the manifest is."""
        return (self.config, *self.layers)

    @property
    def size(self) -> int:
        """Bytes of config and layers."""
        return sum(blob.size for blob in self.blobs)

    @property
    def kind(self) -> str:
        return self.annotations.get(terms.KIND, "")

    def files(self) -> dict[str, Descriptor]:
        """File name to layer. Raises what makes an artifact one that is not unpacked."""
        found: dict[str, Descriptor] = {}
        taken: dict[str, str] = {}
        for layer in self.layers:
            if _packed(layer):
                raise RefusedMediaType(
                    f"a layer is `{shown(layer.media_type)}`, an archive, which adaptr never unpacks",
                    hint="get it with the tool that made it (`oras pull`, `kit unpack`) and give the folder",
                )
            name = layer.title
            if name:
                _require_apart(name, taken)
                found[name] = layer
        return found


def _require_apart(name: str, taken: dict[str, str]) -> None:
    """Raises `BadManifest` for a name that is a file or folder already, on systems that see no case too.

    `taken`: the folded names so far, of files with themselves, of folders with "".
    """
    folded = name.casefold()
    above = [folded[:at] for at, letter in enumerate(folded) if letter == "/"]
    if folded in taken or any(taken.get(folder) for folder in above):
        raise BadManifest(
            f"two layers are called `{name}`, or one is a file where the other wants a folder", hint=_AGAIN
        )
    taken.update(dict.fromkeys(above, ""), **{folded: name})


def _packed(layer: Descriptor) -> bool:
    """Whether a layer is an archive. ORAS calls plain files tar too, and marks what it unpacks."""
    if layer.title.lower().endswith(_ARCHIVE_NAMES):
        return True
    if layer.media_type == _ORAS_FILE and layer.annotations.get(_ORAS_UNPACK, "false") == "false":
        return not layer.title
    return any(mark in layer.media_type.lower() for mark in _ARCHIVES)


def parse(raw: bytes, content_type: str | None = None) -> Manifest:
    """Read a manifest. Raises `BadManifest`, also where the type that came with it is another than it says itself."""
    document = _document(raw)
    said = _text(document.get("mediaType", terms.OCI_MANIFEST), "mediaType")
    if content_type and content_type.partition(";")[0].strip() not in {said, "application/json"}:
        raise BadManifest(
            "the manifest",
            got=f"called `{shown(content_type)}` by the registry",
            want=f"`{shown(said)}`, as it calls itself",
            hint=_AGAIN,
        )
    if said not in {terms.OCI_MANIFEST, terms.DOCKER_MANIFEST}:
        raise RefusedMediaType(
            "it",
            got=f"`{shown(said)}`",
            want="an image manifest, which is what an adapter is kept in",
            hint="look at the reference: it may be a container image or an index",
        )
    if "manifests" in document or document.get("schemaVersion") != 2:
        raise BadManifest(
            "the manifest has `manifests` or another schemaVersion than 2: it is two things at once", hint=_AGAIN
        )
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise BadManifest("the manifest has no list `layers`", hint=_AGAIN)
    if len(layers) > MAX_LAYERS:
        raise BadManifest(
            "the manifest",
            verb="has",
            got=f"{len(layers)} layers",
            want=f"at most {MAX_LAYERS}",
            hint="put fewer files into one artifact",
        )
    subject = document.get("subject")
    version = _texts(document.get("annotations"), "annotations").get(terms.SPEC_VERSION, terms.SPEC)
    if version.partition(".")[0] != terms.SPEC.partition(".")[0]:
        raise BadManifest(
            f"it follows version {shown(version)} of the artifact specification",
            want=f"version {terms.SPEC}",
            hint="install a newer adaptr",
        )
    return Manifest(
        config=descriptor(document.get("config"), "config"),
        layers=tuple(descriptor(layer, "layers") for layer in layers),
        artifact_type=_text(document.get("artifactType", ""), "artifactType"),
        annotations=_texts(document.get("annotations"), "annotations"),
        subject=None if subject is None else descriptor(subject, "subject"),
        raw=raw,
        media_type=said,
    )


def parse_index(raw: bytes, content_type: str | None = None) -> tuple[Descriptor, ...]:
    """The entries of an image index. Raises `BadManifest`."""
    return tuple(descriptor(entry, "manifests") for entry in _entries(raw, content_type))


def _entries(raw: bytes, content_type: str | None) -> list[Any]:
    document = _document(raw)
    said = _text(document.get("mediaType", terms.OCI_INDEX), "mediaType")
    if said != terms.OCI_INDEX or (
        content_type and content_type.partition(";")[0].strip() not in {said, "application/json"}
    ):
        what = f"`{shown(content_type or said)}` is not an image index"
        raise BadManifest(what, hint="look at the reference: it may be of an artifact itself")
    entries = document.get("manifests")
    if not isinstance(entries, list) or "layers" in document:
        raise BadManifest("it is no image index", want="a list `manifests` and no `layers`", hint=_AGAIN)
    return entries


def parse_list(raw: bytes, content_type: str | None = None) -> tuple[Descriptor, ...]:
    """The entries of an index that anybody may add to, without those that are none. Raises `BadManifest`."""
    found: list[Descriptor] = []
    for entry in _entries(raw, content_type):
        with suppress(IntegrityError):
            found.append(descriptor(entry, "manifests"))
    return tuple(found)


def index_bytes(entries: Iterable[Descriptor]) -> bytes:
    """An image index of these entries."""
    document = {"schemaVersion": 2, "mediaType": terms.OCI_INDEX, "manifests": [entry.document() for entry in entries]}
    return canonical.dumps(document).encode()


def descriptor(value: object, where: str) -> Descriptor:
    """A descriptor out of JSON. `urls` are ignored: they would send a reader anywhere."""
    if not isinstance(value, dict):
        raise BadManifest(f"`{where}` holds no descriptor", want="`mediaType`, `digest` and `size`", hint=_AGAIN)
    size = value.get("size")
    if type(size) is not int or not 0 <= size < 2**63:
        raise BadManifest(f"`{where}` has the size `{shown(size)}`", want="a natural number")
    data = value.get("data")
    found = Descriptor(
        _text(value.get("mediaType"), f"{where}.mediaType"),
        Digest(value.get("digest", "")),
        size,
        _texts(value.get("annotations"), f"{where}.annotations"),
        _text(value.get("artifactType", ""), f"{where}.artifactType"),
        None if data is None else _decoded(data, where),
    )
    if found.data is not None and Digest.of(found.data) != found.digest:
        raise BadManifest(f"`{where}` carries data that its digest does not name", hint=_AGAIN)
    return found


def _document(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX:
        raise BadManifest(
            "the manifest",
            verb="has",
            got=f"{len(raw)} bytes",
            want=f"at most {MAX}",
            hint="put less into its annotations, or fewer files into one artifact",
        )
    return json_object(raw, "the manifest", BadManifest)


def _decoded(data: object, where: str) -> bytes:
    try:
        return base64.b64decode(_text(data, f"{where}.data"), validate=True)
    except ValueError:
        raise BadManifest(f"`{where}.data` is not base64", hint=_AGAIN) from None


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise BadManifest(f"`{where}`", got=f"`{shown(value)}`", want="text")
    return value


def _texts(value: object, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise BadManifest(f"`{where}` is no map", want="a map from text to text", hint=_AGAIN)
    return value
