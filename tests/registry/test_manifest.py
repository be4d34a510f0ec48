"""Manifests: canonical when written, strict when read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adaptr.errors import BadDigest, BadManifest, IntegrityError, RefusedMediaType, UnsafeName
from adaptr.registry import terms
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import EMPTY, MAX, Descriptor, Manifest, index_bytes, parse, parse_index

CONFIG = Descriptor(terms.OCI_EMPTY, Digest.of(EMPTY), len(EMPTY))


def layer(name: str = "a.safetensors", media_type: str = terms.WEIGHTS_LAYER, **more: str) -> Descriptor:
    said = {terms.TITLE: name, terms.FILEPATH: name, **more}
    return Descriptor(media_type, Digest.of(name.encode()), len(name), said)


def made(*layers: Descriptor, **annotations: str) -> Manifest:
    return Manifest.make(CONFIG, layers or (layer(),), terms.MODEL_ARTIFACT, annotations)


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(made().raw), **fields}).encode()


def test_the_same_content_is_the_same_bytes_in_any_order() -> None:
    a, b = made(x="1", y="2"), made(y="2", x="1")
    assert a.raw == b.raw
    assert a.digest == b.digest == Digest.of(a.raw)
    assert a.raw == json.dumps(json.loads(a.raw), sort_keys=True, separators=(",", ":")).encode()


def test_what_is_written_is_what_is_read() -> None:
    subject = made().descriptor
    first = Manifest.make(CONFIG, [layer()], terms.BUNDLE, {"k": "v"}, subject)
    assert parse(first.raw, terms.OCI_MANIFEST) == first
    assert first.subject == subject
    assert first.files() == {"a.safetensors": layer()}


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", BadManifest),
        (b"[]", BadManifest),
        (b"\xff{}", BadManifest),
        (b'{"a":1,"a":2}', BadManifest),
        (b"{" * 100_000, BadManifest),
        (b" " * (MAX + 1), BadManifest),
        (changed(schemaVersion=1), BadManifest),
        (changed(manifests=[]), BadManifest),
        (changed(layers={}), BadManifest),
        (changed(layers=[1]), BadManifest),
        (changed(config=None), BadManifest),
        (changed(annotations={"a": 1}), BadManifest),
        (changed(mediaType=terms.OCI_INDEX), RefusedMediaType),
        (changed(mediaType=3), IntegrityError),
        (changed(annotations={terms.SPEC_VERSION: "2.0"}), BadManifest),
        (changed(config={**CONFIG.document(), "digest": "sha256:../../x"}), BadDigest),
        (changed(config={**CONFIG.document(), "size": -1}), BadManifest),
        (changed(config={**CONFIG.document(), "size": True}), BadManifest),
        (changed(config={**CONFIG.document(), "data": "e30="}), None),
        (changed(config={**CONFIG.document(), "data": "W10="}), BadManifest),
        (changed(config={**CONFIG.document(), "data": "%"}), BadManifest),
        (changed(unknown={"kept": True}), None),
        (changed(config={**CONFIG.document(), "urls": ["http://169.254.169.254/"]}), None),
    ],
)
def test_a_manifest_is_read_strictly(raw: bytes, error: type[Exception] | None) -> None:
    if error is None:
        assert parse(raw).raw == raw
        return
    with pytest.raises(error):
        parse(raw)


def test_a_document_is_not_what_another_type_says_it_is() -> None:
    with pytest.raises(BadManifest, match="calls itself"):
        parse(made().raw, terms.OCI_INDEX)
    with pytest.raises(BadManifest, match="not an image index"):
        parse_index(index_bytes([made().descriptor]), terms.OCI_MANIFEST)
    with pytest.raises(BadManifest):
        parse_index(changed(mediaType=terms.OCI_INDEX, manifests=[]))
    assert parse_index(index_bytes([made().descriptor])) == (made().descriptor,)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.cncf.model.weight.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.kitops.modelkit.model.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ],
)
def test_archives_are_never_unpacked(media_type: str) -> None:
    with pytest.raises(RefusedMediaType, match="oras pull"):
        made(layer(media_type=media_type)).files()


def test_names_of_layers_must_be_harmless_and_one() -> None:
    with pytest.raises(UnsafeName):
        made(layer("../x")).files()
    with pytest.raises(BadManifest, match="called both"):
        made(layer("a", **{terms.FILEPATH: "b"})).files()
    with pytest.raises(BadManifest, match="two layers"):
        made(layer("a"), layer("A")).files()
