"""Pull and push against Debian's docker-registry, alone and behind a proxy that fails."""

from __future__ import annotations

import os
import re

import pytest

from adaptr import errors as e
from adaptr.registry import terms
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor
from adaptr.registry.reference import Reference, parse
from adaptr.registry.remotes import Remote
from adaptr.registry.store import Store, ingest
from registry.conftest import Made, enveloped, layer, safetensors
from registry.servers.faults import Faults
from registry.servers.registry import DockerRegistry


def at(host: str, repository: str, tag: str = "latest") -> Reference:
    return parse(f"oci://{host}/{repository}:{tag}")


def parts(store: Store) -> list[str]:
    return sorted(os.listdir(store.root / "ingest"))


def big(store: Store, digest: Digest) -> str:
    """A rule's pattern for reading the biggest blob."""
    return f"GET .*blobs/{max(store.manifest(digest).blobs, key=lambda blob: blob.size).digest}"


def test_an_artifact_goes_out_and_comes_back(
    oci: Remote, plain: DockerRegistry, repository: str, store: Store, other: Store, made: Made
) -> None:
    digest, where = made(store, 50_000, 7), at(plain.host, repository)
    heard: list[tuple[int, int, str]] = []
    pushed = oci.push(store, digest, where, lambda *said: heard.append(said))
    assert (pushed.reference, pushed.digest, pushed.skipped) == (where.at(digest), digest, 0)
    assert pushed.uploaded == store.manifest(digest).size
    assert heard[-1] == (pushed.uploaded, pushed.uploaded, "pushing")
    assert oci.resolve(where) == digest
    assert oci.pull(where, other, lambda *said: heard.append(said)) == digest
    assert heard[-1] == (pushed.uploaded, pushed.uploaded, "pulling")
    assert all(other.path(blob.digest).is_file() for blob in other.manifest(digest).blobs)
    assert not parts(other)


def test_what_is_there_is_not_sent_again(
    oci: Remote, plain: DockerRegistry, repository: str, store: Store, made: Made
) -> None:
    digest = made(store)
    oci.push(store, digest, at(plain.host, repository))
    again = oci.push(store, digest, at(plain.host, repository, "other"))
    assert (again.uploaded, again.skipped) == (0, store.manifest(digest).size)


def test_a_neighbour_gives_its_blobs(
    oci: Remote, faulty: Faults, repository: str, store: Store, other: Store, made: Made
) -> None:
    digest = made(store)
    oci.push(store, digest, at(faulty.host, repository))
    oci.pull(at(faulty.host, repository), other)
    pushed = oci.push(other, digest, at(faulty.host, f"{repository}-copy"))
    assert pushed.uploaded == 0
    assert any("mount=" in line and "from=" in line for line in faulty.lines("POST"))
    assert not [line for line in faulty.lines("PUT") if f"{repository}-copy/blobs" in line]


def test_a_refused_mount_is_an_upload(
    oci: Remote, faulty: Faults, repository: str, store: Store, other: Store, made: Made
) -> None:
    digest = made(store)
    oci.push(store, digest, at(faulty.host, repository))
    oci.pull(at(faulty.host, repository), other)
    faulty.add(r"POST .*mount=", "status:401")
    pushed = oci.push(other, digest, at(faulty.host, f"{repository}-copy"))
    assert pushed.uploaded == other.manifest(digest).size


def test_pinned_and_present_asks_nobody(oci: Remote, faulty: Faults, repository: str, store: Store, made: Made) -> None:
    digest = made(store)
    assert oci.pull(at(faulty.host, repository).at(digest), store) == digest
    assert faulty.seen == []


def test_a_version_stays_what_it_is(
    oci: Remote, plain: DockerRegistry, repository: str, store: Store, made: Made
) -> None:
    first, second, where = made(store), made(store), at(plain.host, repository, "v1.2.0")
    oci.push(store, first, where)
    oci.push(store, first, where)
    with pytest.raises(e.ReferenceMoved, match="force=True"):
        oci.push(store, second, where)
    assert oci.resolve(where) == first
    oci.push(store, second, where, force=True)
    assert oci.resolve(where) == second
    for digest in (first, second):  # `latest` is no version
        oci.push(store, digest, at(plain.host, repository))
    assert oci.resolve(at(plain.host, repository)) == second


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        ("cut:300000", 9),
        ("rst:300000", 9),
        ("short:1", 1),
        ("drop", 2),
        ("status:503", 2),
        ("status:429:0", 2),
        ("slow:0.001", 1),
        ("oversize:1000", 0),
        ("corrupt", 0),
    ],
)
def test_a_pull_survives(
    fault: str, times: int, oci: Remote, faulty: Faults, repository: str, store: Store, other: Store, made: Made
) -> None:
    """Cut, reset, short, silent, busy and slow answers. `times` 0: it can't, and keeps nothing."""
    digest = made(store, 500_000)
    oci.push(store, digest, at(faulty.host, repository))
    biggest = max(store.manifest(digest).blobs, key=lambda blob: blob.size).digest
    faulty.add(rf"GET .*blobs/{biggest}", fault, times or 99)
    if times:
        assert oci.pull(at(faulty.host, repository), other) == digest
        assert not parts(other)
    else:
        with pytest.raises(e.DigestMismatch):
            oci.pull(at(faulty.host, repository), other)
        assert not other.has(biggest)
        assert not [name for name in parts(other) if name.startswith(biggest[7:])]


def test_a_resumed_pull_asks_for_the_rest_only(
    oci: Remote, faulty: Faults, repository: str, store: Store, other: Store, made: Made
) -> None:
    digest = made(store, 500_000)
    oci.push(store, digest, at(faulty.host, repository))
    faulty.add(big(store, digest), "cut:700000", 1)
    oci.pull(at(faulty.host, repository), other)
    ranges = [headers["Range"] for line, headers in faulty.seen if "Range" in headers]
    assert ranges == ["bytes=700000-"]


@pytest.mark.parametrize("fault", ["norange", "range:-5000", "unsatisfied"])
def test_a_resume_that_fails_starts_over(
    fault: str, oci: Remote, faulty: Faults, repository: str, store: Store, other: Store, made: Made
) -> None:
    digest = made(store, 500_000)
    oci.push(store, digest, at(faulty.host, repository))
    faulty.add(big(store, digest), "cut:700000", 1)
    faulty.add(big(store, digest), fault, 9)
    assert oci.pull(at(faulty.host, repository), other) == digest


def test_a_server_that_is_gone_keeps_the_part(
    oci: Remote,
    faulty: Faults,
    repository: str,
    store: Store,
    other: Store,
    made: Made,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingest, "TRIES", 2)
    digest = made(store, 500_000)
    oci.push(store, digest, at(faulty.host, repository))
    faulty.add(big(store, digest), "cut:700000", 1)
    faulty.add(big(store, digest), "drop")
    with pytest.raises(e.TransferError, match=re.escape(faulty.host)):
        oci.pull(at(faulty.host, repository), other)
    assert [name for name in parts(other) if name.endswith(".part")]
    faulty.rules.clear()
    faulty.seen.clear()
    oci.pull(at(faulty.host, repository), other)
    assert "bytes=700000-" in [headers.get("Range") for _, headers in faulty.seen]
    assert not parts(other)


def test_a_blob_that_changed_in_the_registry(
    oci: Remote, plain: DockerRegistry, repository: str, store: Store, other: Store, made: Made
) -> None:
    """The registry serves it with 200 and the old digest in its headers."""
    digest = made(store)
    oci.push(store, digest, at(plain.host, repository))
    blob = store.manifest(digest).layers[0].digest
    file = plain.blob(blob)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(e.DigestMismatch, match=blob):
        oci.pull(at(plain.host, repository), other)
    assert not other.has(blob)
    assert not [name for name in parts(other) if name.startswith(blob[7:])]


@pytest.mark.parametrize("difference", [-1, 1, 10_000])
def test_a_manifest_that_lies_about_a_size(
    difference: int, oci: Remote, plain: DockerRegistry, repository: str, store: Store, other: Store
) -> None:
    """Debian's registry takes it."""
    file = safetensors(1000)
    true = layer(store, "a.safetensors", file)
    lying = Descriptor(true.media_type, true.digest, true.size + difference, true.annotations)
    digest = store.put(enveloped(store, [lying], {}))
    raw = store.manifest(digest).raw
    registry = _client(plain.host)
    honest = store.put(enveloped(store, [true], {}))
    oci.push(store, honest, at(plain.host, repository))
    registry.put_manifest(repository, "lie", raw, terms.OCI_MANIFEST)
    with pytest.raises((e.DigestMismatch, e.TransferError)):
        oci.pull(at(plain.host, repository, "lie"), other)
    assert not other.has(true.digest)


def _client(host: str):  # type: ignore[no-untyped-def]
    from adaptr.registry.client.registry import connected

    return connected(host)


@pytest.mark.parametrize("fault", ["status:500", "status:429:0", "drop", "rstbody:100000"])
@pytest.mark.parametrize("step", ["POST", "PUT .*/blobs/", "PUT .*/manifests/", "HEAD"])
def test_a_push_survives(
    fault: str, step: str, oci: Remote, faulty: Faults, repository: str, store: Store, other: Store, made: Made
) -> None:
    digest = made(store, 200_000)
    faulty.add(step, fault, 2)
    oci.push(store, digest, at(faulty.host, repository))
    assert oci.pull(at(faulty.host, repository), other) == digest


def test_a_push_that_fails_leaves_no_tag(
    oci: Remote, faulty: Faults, repository: str, store: Store, made: Made
) -> None:
    digest = made(store)
    faulty.add(r"PUT .*/blobs/", "status:500")
    with pytest.raises(e.TransferError, match="500"):
        oci.push(store, digest, at(faulty.host, repository))
    with pytest.raises(e.NotFound, match="latest"):
        oci.resolve(at(faulty.host, repository))
    assert faulty.lines("DELETE")


def test_info_reads_the_header_alone(oci: Remote, faulty: Faults, repository: str, store: Store) -> None:
    data = safetensors(1_000_000, note="n" * 100_000)
    digest = store.put(enveloped(store, [layer(store, "a.safetensors", data)], {}))
    oci.push(store, digest, at(faulty.host, repository))
    faulty.seen.clear()
    info = oci.info(at(faulty.host, repository))
    assert info.header == data[8 : 8 + int.from_bytes(data[:8], "little")]
    assert (info.digest, dict(info.files)) == (digest, {"a.safetensors": len(data)})
    ranges = [headers["Range"] for _, headers in faulty.seen if "Range" in headers]
    assert ranges == ["bytes=0-65535", f"bytes=0-{8 + len(info.header) - 1}"]


def test_nothing_there(oci: Remote, plain: DockerRegistry, repository: str, store: Store) -> None:
    with pytest.raises(e.NotFound, match=rf"`{plain.host}` has no `{repository}:latest`.*adaptr login {plain.host}"):
        oci.pull(at(plain.host, repository), store)


@pytest.mark.parametrize(("fault", "times"), [("short:1", 1), ("corrupt", 1), ("corrupt", 9)])
@pytest.mark.parametrize("pinned", [False, True])
def test_a_damaged_manifest_is_asked_for_again(
    pinned: bool, fault: str, times: int, oci: Remote, faulty: Faults, repository: str, store: Store, other: Store,
    made: Made,
) -> None:  # fmt: skip
    digest, where = made(store), at(faulty.host, repository)
    oci.push(store, digest, where)
    faulty.add("GET .*/manifests/", fault, times)
    if times == 1:
        assert oci.pull(where.at(digest) if pinned else where, other) == digest
    else:
        with pytest.raises(e.DigestMismatch, match=repository):
            oci.pull(where.at(digest) if pinned else where, other)


def test_nobody_there(oci: Remote, store: Store, repository: str) -> None:
    with pytest.raises(e.TransferError, match=r"127\.0\.0\.1:1"):
        oci.pull(at("127.0.0.1:1", repository), store)
