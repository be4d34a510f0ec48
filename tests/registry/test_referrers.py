from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from adaptr import errors as e
from adaptr.registry import manifest as manifests
from adaptr.registry import referrers, terms
from adaptr.registry.client.registry import connected
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.reference import parse
from adaptr.registry.remotes import Remote
from adaptr.registry.store import Store
from registry.conftest import Made, enveloped, layer
from registry.servers.faults import Faults
from registry.servers.registry import DockerRegistry


def bundle(store: Store, subject: Digest, text: str) -> Manifest:
    """Something like a signature of `subject`."""
    data = text.encode()
    part = Descriptor(terms.BUNDLE, store.add_bytes(data), len(data))
    config = Descriptor(terms.OCI_EMPTY, store.add_bytes(b"{}"), 2)
    about = store.manifest(subject).descriptor
    made = Manifest.make(config, [part], terms.BUNDLE, {"n": text}, about)
    store.put(made)
    return made


def test_signatures_go_along(
    oci: Remote, plain: DockerRegistry, repository: str, store: Store, other: Store, made: Made
) -> None:
    digest = made(store)
    signed = bundle(store, digest, "signed")
    where = parse(f"oci://{plain.host}/{repository}:latest")
    oci.push(store, digest, where)
    oci.push(store, digest, where)
    entries = referrers.listed(connected(plain.host), repository, digest)
    assert [(entry.digest, entry.artifact_type, entry.annotations) for entry in entries] == [
        (signed.digest, terms.BUNDLE, {"n": "signed"})
    ]
    oci.pull(where, other)
    assert [one.digest for one in other.referrers(digest)] == [signed.digest]


def test_what_is_attached_to_something_else_is_left(
    oci: Remote, plain: DockerRegistry, repository: str, store: Store, other: Store, made: Made
) -> None:
    """The list is a hint; somebody may have written anything into it."""
    digest, another = made(store), made(store)
    where = parse(f"oci://{plain.host}/{repository}:latest")
    oci.push(store, another, where, force=True)
    oci.push(store, digest, where)
    registry, wrong = connected(plain.host), bundle(store, another, "of another")
    referrers.attach(registry, repository, store, wrong)
    assert referrers._write(registry, repository, referrers.tag_of(digest), [wrong.descriptor])
    oci.pull(where, other)
    assert other.referrers(digest) == []
    assert not other.has(wrong.digest)


@pytest.mark.parametrize("count", [6])
def test_writers_at_once_do_not_lose_each_other(
    count: int, oci: Remote, plain: DockerRegistry, repository: str, store: Store, made: Made
) -> None:
    digest = made(store)
    oci.push(store, digest, parse(f"oci://{plain.host}/{repository}:latest"))
    made_now = [bundle(store, digest, str(number)) for number in range(count)]
    failed: list[Any] = []

    def attach(one: Manifest) -> None:
        try:
            referrers.attach(connected(plain.host), repository, store, one)
        except e.AdaptrError as error:
            failed.append(error)

    threads = [threading.Thread(target=attach, args=(one,)) for one in made_now]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = {entry.digest for entry in referrers.listed(connected(plain.host), repository, digest)}
    assert not failed
    assert listed == {one.digest for one in made_now}


def test_a_registry_with_the_api_keeps_the_list(
    oci: Remote, faulty: Faults, repository: str, store: Store, made: Made
) -> None:
    digest = made(store)
    oci.push(store, digest, parse(f"oci://{faulty.host}/{repository}:latest"))
    faulty.add("PUT .*/manifests/sha256:", f"header:OCI-Subject={digest}")
    faulty.seen.clear()
    referrers.attach(connected(faulty.host), repository, store, bundle(store, digest, "x"))
    assert not [line for line in faulty.lines() if "sha256-" in line]


def test_no_list_is_an_empty_list(plain: DockerRegistry, repository: str, store: Store, made: Made) -> None:
    assert referrers.listed(connected(plain.host), repository, made(store)) == []


def test_a_list_that_is_none(oci: Remote, plain: DockerRegistry, repository: str, store: Store, made: Made) -> None:
    digest = made(store)
    oci.push(store, digest, parse(f"oci://{plain.host}/{repository}:latest"))
    registry = connected(plain.host)
    manifest = enveloped(store, [layer(store, "a.md", b"x")], {})
    store.put(manifest)
    oci.push(store, manifest.digest, parse(f"oci://{plain.host}/{repository}:other"))
    registry.put_manifest(repository, referrers.tag_of(digest), manifest.raw, manifest.media_type)
    with pytest.raises((e.BadManifest, e.RefusedMediaType)):
        referrers.listed(registry, repository, digest)


@pytest.mark.parametrize("junk", ["not there", "no manifest", "no descriptor"])
def test_one_that_is_junk_stops_nobody(
    junk: str, oci: Remote, plain: DockerRegistry, repository: str, store: Store, other: Store, made: Made
) -> None:
    digest = made(store)
    signed = bundle(store, digest, "signed")
    where = parse(f"oci://{plain.host}/{repository}:latest")
    oci.push(store, digest, where)
    registry = connected(plain.host)
    evil = {"mediaType": terms.OCI_MANIFEST, "artifactType": terms.BUNDLE, "digest": "sha256:" + "0" * 64, "size": 2}
    if junk == "no manifest":
        evil["digest"] = signed.blobs[0].digest
    if junk == "no descriptor":
        evil["digest"] = ["sha256:"]
    entries = [evil, signed.descriptor.document()]
    raw = json.dumps({"schemaVersion": 2, "mediaType": terms.OCI_INDEX, "manifests": entries}).encode()
    listed = manifests.parse_list(raw)
    assert signed.digest in {entry.digest for entry in listed}
    registry.referrers = lambda *_: listed  # type: ignore[method-assign]
    try:
        oci.pull(where, other)
    finally:
        del registry.referrers
    assert [one.digest for one in other.referrers(digest)] == [signed.digest]
