"""What adaptr asks of a registry: the first half is required, the second is told in the report."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from .conftest import INDEX, MANIFEST, Registry, digest

EMPTY = b"{}"
MODEL = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
WEIGHTS = "application/vnd.cncf.model.weight.v1.raw"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
NAME = {"org.opencontainers.image.title": "a.safetensors", "org.cncf.model.filepath": "a.safetensors"}
Can = Callable[..., bool]


def described(kind: str, data: bytes, **more: object) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data), **more}


def manifest(data: bytes, **more: object) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": MODEL,
        "config": described(CONFIG, EMPTY),
        "layers": [described(WEIGHTS, data, annotations=NAME)],
        "annotations": {"dev.adaptr.spec.version": "1.0", "dev.adaptr.kind": "adapter"},
        **more,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@pytest.fixture
def data(registry: Registry) -> bytes:
    """A blob that is there, with the empty config."""
    made = os.urandom(1000)
    assert registry.push_blob(made).status_code == 201
    assert registry.push_blob(EMPTY).status_code == 201
    return made


@pytest.fixture
def artifact(registry: Registry, data: bytes) -> bytes:
    raw = manifest(data)
    assert registry.push_manifest(raw).status_code == 201
    return raw


def read(registry: Registry, name: str, kind: str = MANIFEST) -> object:
    return registry("GET", f"manifests/{name}", headers={"Accept": kind})


# ---------------------------------------------------------------- required


def test_it_speaks_the_protocol(registry: Registry) -> None:
    assert registry("GET", "/v2/").status_code == 200


def test_a_blob_comes_back_as_it_was(registry: Registry, data: bytes) -> None:
    assert registry("HEAD", f"blobs/{digest(data)}").headers["content-length"] == str(len(data))
    assert registry("GET", f"blobs/{digest(data)}").content == data


def test_an_absent_blob_is_404(registry: Registry, data: bytes) -> None:
    assert registry("HEAD", f"blobs/{digest(os.urandom(9))}").status_code == 404


def test_a_blob_under_another_digest_is_refused(registry: Registry) -> None:
    started = registry("POST", "blobs/uploads/")
    where = registry.http.base_url.join(started.headers["location"])
    url = str(where.copy_merge_params({"digest": digest(b"other")}))
    answer = registry("PUT", url, content=b"this", headers={"Content-Type": "application/octet-stream"})
    assert 400 <= answer.status_code < 500
    assert registry("HEAD", f"blobs/{digest(b'other')}").status_code == 404


def test_a_manifest_comes_back_as_it_was_by_digest_and_by_tag(registry: Registry, artifact: bytes) -> None:
    assert registry.push_manifest(artifact, "1.0").status_code == 201
    for name in (digest(artifact), "1.0"):
        answer = registry("GET", f"manifests/{name}", headers={"Accept": MANIFEST})
        assert answer.content == artifact
        assert answer.headers["content-type"] == MANIFEST


def test_a_manifest_under_another_digest_is_refused(registry: Registry, data: bytes) -> None:
    raw = manifest(data, annotations={"a": "b"})
    answer = registry.push_manifest(raw, digest(b"other"))
    assert 400 <= answer.status_code < 500


def test_a_large_manifest_is_kept(registry: Registry, data: bytes) -> None:
    raw = manifest(data, annotations={"long": "x" * 1_000_000})
    assert registry.push_manifest(raw).status_code == 201
    assert registry("GET", f"manifests/{digest(raw)}", headers={"Accept": MANIFEST}).content == raw


def test_a_tag_moves(registry: Registry, artifact: bytes, data: bytes) -> None:
    other = manifest(data, annotations={"other": "one"})
    for raw in (artifact, other):
        assert registry.push_manifest(raw, "moving").status_code == 201
    assert registry("GET", "manifests/moving", headers={"Accept": MANIFEST}).content == other


def test_tags_are_listed(registry: Registry, artifact: bytes) -> None:
    registry.push_manifest(artifact, "listed")
    assert "listed" in registry("GET", "tags/list").json()["tags"]


def test_an_attachment_and_its_index_are_kept(registry: Registry, artifact: bytes) -> None:
    """By the fallback tag, which needs no more than manifests and tags."""
    attached = attachment(registry, artifact)
    assert registry.push_manifest(attached).status_code == 201
    entry = described(MANIFEST, attached, artifactType=BUNDLE)
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    tag = digest(artifact).replace(":", "-")
    assert registry.push_manifest(index, tag, INDEX).status_code == 201
    assert registry("GET", f"manifests/{tag}", headers={"Accept": INDEX}).content == index


def attachment(registry: Registry, subject: bytes) -> bytes:
    bundle = json.dumps({"n": secrets.token_hex(8)}).encode()
    registry.push_blob(bundle)
    registry.push_blob(EMPTY)
    return manifest(
        bundle,
        artifactType=BUNDLE,
        config=described("application/vnd.oci.empty.v1+json", EMPTY),
        layers=[described(BUNDLE, bundle)],
        subject=described(MANIFEST, subject),
    )


# ---------------------------------------------------------------- optional


def test_ranges(registry: Registry, data: bytes, can: Can) -> None:
    answer = registry("GET", f"blobs/{digest(data)}", headers={"Range": "bytes=400-"})
    right = answer.status_code == 206 and answer.content == data[400:]
    can("resumable pull (ranges)", right, f"status {answer.status_code}")
    assert right or answer.content == data  # the whole is fine, anything else is a lie


def test_mounts(registry: Registry, data: bytes, can: Can) -> None:
    other = f"{registry.repository}-mounted"
    answer = registry("POST", "blobs/uploads/", other, params={"mount": digest(data), "from": registry.repository})
    can("mount from another repository", answer.status_code == 201, f"status {answer.status_code}")
    assert answer.status_code in {201, 202, 401, 403}
    if answer.status_code == 201:
        assert registry("GET", f"blobs/{digest(data)}", other).content == data


def test_referrers(registry: Registry, artifact: bytes, can: Can) -> None:
    attached = attachment(registry, artifact)
    pushed = registry.push_manifest(attached)
    answer = registry("GET", f"referrers/{digest(artifact)}")
    right = answer.status_code == 200 and any(
        one["digest"] == digest(attached) for one in answer.json().get("manifests", [])
    )
    can("referrers API", right, f"status {answer.status_code}")
    can("OCI-Subject in the answer", pushed.headers.get("oci-subject") == digest(artifact))


def test_one_request_upload(registry: Registry, can: Can) -> None:
    data = os.urandom(100)
    answer = registry(
        "POST", "blobs/uploads/", params={"digest": digest(data)}, content=data,
        headers={"Content-Type": "application/octet-stream"},
    )  # fmt: skip
    can("upload in one request", answer.status_code == 201, f"status {answer.status_code}")


def test_deletes(registry: Registry, artifact: bytes, data: bytes, can: Can) -> None:
    raw = manifest(data, annotations={"to": "delete"})
    registry.push_manifest(raw, "to-delete")
    answer = registry("DELETE", "manifests/to-delete")
    can("delete a tag", answer.status_code == 202, f"status {answer.status_code}")
    answer = registry("DELETE", f"manifests/{digest(raw)}")
    can("delete a manifest", answer.status_code == 202, f"status {answer.status_code}")


def test_other_observations(registry: Registry, artifact: bytes, data: bytes, can: Can) -> None:
    registry.push_manifest(artifact, "seen")
    answer = registry("GET", "manifests/seen", headers={"Accept": "*/*"})
    can("manifest for `Accept: */*`", answer.status_code == 200, f"status {answer.status_code}")
    answer = registry("GET", "manifests/seen", headers={"Accept": MANIFEST, "If-None-Match": f'"{digest(artifact)}"'})
    can("unchanged is 304", answer.status_code == 304, f"status {answer.status_code}")
    lying = json.loads(manifest(data, annotations={"lie": "size"}))
    lying["layers"][0]["size"] += 1
    answer = registry.push_manifest(json.dumps(lying).encode())
    can("checks sizes in manifests", 400 <= answer.status_code < 500, f"status {answer.status_code}")
    raw = manifest(os.urandom(10))
    answer = registry.push_manifest(raw)
    can("checks that blobs are there", 400 <= answer.status_code < 500, f"status {answer.status_code}")
    answer = registry("GET", "/v2/_catalog")
    can("catalogue", answer.status_code == 200, f"status {answer.status_code}")


def test_concurrent_writers_of_one_tag(registry: Registry, artifact: bytes, data: bytes, can: Can) -> None:
    """Two that write a list at once: does the registry tell the second (If-Match)?"""
    first = registry.push_manifest(artifact, "contended")
    other = manifest(data, annotations={"second": "writer"})
    answer = registry(
        "PUT", "manifests/contended", content=other,
        headers={"Content-Type": MANIFEST, "If-Match": f'"{digest(b"something else")}"'},
    )  # fmt: skip
    assert first.status_code == 201
    can("compare and swap (If-Match)", answer.status_code == 412, f"status {answer.status_code}")


def test_parallel_uploads(registry: Registry) -> None:
    blobs = [os.urandom(20_000) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert {answer.status_code for answer in pool.map(registry.push_blob, blobs)} == {201}
    assert all(registry("GET", f"blobs/{digest(blob)}").content == blob for blob in blobs)
