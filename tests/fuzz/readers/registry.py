"""Readers of what registries and their clients' files say: manifests, indexes, accounts, signatures."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from random import Random

from adaptr.registry import check, search, terms
from adaptr.registry import manifest as manifests
from adaptr.registry.client import challenge, credentials, pins
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.signing import bundle, keys
from adaptr.registry.signing.bundle import Signer, Trust
from adaptr.registry.signing.statement import Statement
from adaptr.registry.store import Store
from adaptr.registry.store.index import Index
from fuzz import mutations
from fuzz.readers.examples import ZERO, Example, Reader, is_json

MANIFEST = {
    "schemaVersion": 2,
    "mediaType": terms.OCI_MANIFEST,
    "artifactType": terms.MODEL_ARTIFACT,
    "config": {"mediaType": terms.MODEL_CONFIG, "digest": "sha256:" + "3" * 64, "size": 505},
    "layers": [
        {
            "mediaType": terms.WEIGHTS_LAYER,
            "digest": "sha256:" + "4" * 64,
            "size": 10,
            "annotations": {terms.FILEPATH: "a.safetensors", terms.TITLE: "a.safetensors"},
        },
        {"mediaType": terms.DOC_LAYER, "digest": Digest.of(b"x"), "size": 1, "data": "eA=="},
    ],
    "subject": {"mediaType": "a", "digest": "sha256:" + "5" * 64, "size": 1},
    "annotations": {terms.SPEC_VERSION: terms.SPEC, terms.KIND: terms.ADAPTER},
}
INDEX = {
    "schemaVersion": 2,
    "mediaType": terms.OCI_INDEX,
    "manifests": [
        {
            "mediaType": terms.OCI_MANIFEST,
            "digest": "sha256:" + "4" * 64,
            "size": 3,
            "artifactType": "x",
            "annotations": {terms.REF_NAME: "x:1", terms.REFERENCE: "oci://h.io/a:1"},
        }
    ],
}
FOUND = {"version": 1, "artifacts": [{"reference": "oci://h.io/a/b:1", "digest": ZERO, "annotations": {"a": "b"}}]}
ACCOUNTS = {
    "auths": {"h.io": {"auth": "YTpi"}, "https://index.docker.io/v1/": {"username": "a", "password": "b"}},
    "credHelpers": {"x.io": "none"},
    "credsStore": "",
}
CHALLENGE = (
    b'Bearer realm="https://a.b/token",service="x",scope="repository:a:pull", Basic realm="a\\"b", Negotiate abc=='
)


def _manifests(folder: Path) -> dict[str, Reader]:
    def of_manifest(random: Random) -> Example:
        raw = mutations.text(random, MANIFEST)
        kind = random.choice((None, terms.OCI_MANIFEST, "application/json; x", "\xff"))

        def read() -> None:
            found = manifests.parse(raw, kind)
            check.refuse_pickles(found)
            found.files()

        return is_json(raw), read

    def of_index(random: Random) -> Example:
        raw = mutations.text(random, INDEX)
        (folder / "index.json").write_bytes(raw)

        def read() -> None:
            for entry in manifests.parse_index(raw):
                entry.title  # noqa: B018
            Index(folder).entries()

        return is_json(raw), read

    return {"manifest": of_manifest, "index": of_index}


def _registry(folder: Path) -> dict[str, Reader]:
    store = Store(folder / "store")
    config = Descriptor(terms.OCI_EMPTY, store.add_bytes(b"{}"), 2)

    def of_search(random: Random) -> Example:
        raw = mutations.text(random, FOUND)
        layer = Descriptor(terms.INDEX_ARTIFACT, store.add_bytes(raw), len(raw))
        found = Manifest.make(config, [layer], terms.INDEX_ARTIFACT, {})
        return is_json(raw), lambda: search.fitting(search.read(found, store), ["a"])

    def of_accounts(random: Random) -> Example:
        raw = mutations.text(random, ACCOUNTS)
        credentials.files()[0].write_bytes(raw)

        def read() -> None:
            for host in ("h.io", "docker.io", "x.io"):
                credentials.find(host, "a/b")

        return is_json(raw), read

    def of_challenge(random: Random) -> Example:
        raw = mutations.flipped(random, CHALLENGE).decode("latin-1")
        return raw[:6] in {"Bearer", "Basic "}, lambda: challenge.parse([raw])

    def of_realms(random: Random) -> Example:
        raw = mutations.text(random, {"h.io": "https://a.h.io", "x.io": "https://b.x.io"})
        path = pins._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        return is_json(raw), pins._read

    return {"search": of_search, "credentials": of_accounts, "challenge": of_challenge, "realms": of_realms}


def _bundles(folder: Path) -> dict[str, Reader]:
    from cryptography.hazmat.primitives.asymmetric import ec

    signer = Signer(ec.generate_private_key(ec.SECP256R1()))
    trust = Trust((signer.key.public_key(),), (), frozenset({"0" * 64}))
    valid = bundle.sign(Statement("a", {"x": "0" * 64}, {"base": "acme/base"}), signer)
    document = json.loads(valid)
    payload = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))

    def example(random: Random) -> Example:
        if random.random() < 0.6:
            raw = mutations.text(random, document)
            return is_json(raw), lambda: bundle.proved(raw, trust)
        said = mutations.text(random, payload)  # and signed, so that it is read
        signature = signer.key.sign(bundle._envelope(said), keys.algorithm(signer.key))
        envelope = {
            "payload": base64.b64encode(said).decode(),
            "payloadType": bundle.PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        }
        made = json.dumps({**document, "dsseEnvelope": envelope}).encode()
        return is_json(said), lambda: bundle.proved(made, trust)

    return {"bundle": example}


READERS = (_manifests, _registry, _bundles)
