"""Bundles that were tampered with, and statements that are not understood."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptr.errors import SignatureError
from adaptr.registry.signing import bundle, keys
from adaptr.registry.signing.bundle import Signer, Trust
from adaptr.registry.signing.statement import Statement
from registry.signers import no_password


def edited(raw: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(raw)
    edit(document)
    return json.dumps(document).encode()


def payload(edit: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        envelope = document["dsseEnvelope"]
        inner = edited(base64.b64decode(envelope["payload"]), edit)
        envelope["payload"] = base64.b64encode(inner).decode()

    return change


ENVELOPES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other-media-type": (lambda d: d.update(mediaType="application/json"), "wanted"),
    "no-envelope": (lambda d: d.pop("dsseEnvelope"), "no DSSE envelope"),
    "no-material": (lambda d: d.pop("verificationMaterial"), "no DSSE envelope or no"),
    "other-payload-type": (lambda d: d["dsseEnvelope"].update(payloadType="text/plain"), "is signed, wanted"),
    "two-signatures": (lambda d: d["dsseEnvelope"]["signatures"].append({"sig": "AA=="}), "exactly one"),
    "no-signature": (lambda d: d["dsseEnvelope"].update(signatures=[]), "exactly one"),
    "not-base64": (lambda d: d["dsseEnvelope"].update(payload="?"), "base64"),
    "number-as-payload": (lambda d: d["dsseEnvelope"].update(payload=1), "base64"),
    "empty-signature": (lambda d: d["dsseEnvelope"]["signatures"][0].update(sig=""), "not by a trusted key"),
    "other-file": (payload(lambda p: p["predicate"]["resources"][0].update(digest="0" * 64)), "not by a trusted key"),
    "other-name": (payload(lambda p: p["subject"][0].update(name="x")), "not by a trusted key"),
    "same-meaning-other-bytes": (payload(lambda p: None), "not by a trusted key"),
    "no-chain": (lambda d: d["verificationMaterial"].update(x509CertificateChain={"certificates": []}), "certificates"),
    "bad-chain": (
        lambda d: d["verificationMaterial"].update(x509CertificateChain={"certificates": [{"rawBytes": "AAAA"}]}),
        "certificate that is none",
    ),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_a_bundle_that_was_changed_is_refused(mine: tuple[Path, Path], name: str) -> None:
    edit, said = ENVELOPES[name]
    raw = bundle.sign(Statement("m", {"a": "1" * 64}), Signer(keys.private(mine[0], no_password)))
    believed = Trust((keys.public(mine[1]),))
    assert bundle.proved(raw, believed).statement.files == {"a": "1" * 64}
    with pytest.raises(SignatureError, match=said):
        bundle.proved(edited(raw, edit), believed)


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"a":1,"a":2}', b"{" * 10000, b"\xff", b" " * (bundle.MAX + 1)])
def test_what_is_no_bundle_is_refused(mine: tuple[Path, Path], raw: bytes) -> None:
    with pytest.raises(SignatureError):
        bundle.proved(raw, Trust((keys.public(mine[1]),)))


def forged(signer: Signer, edit: Callable[[dict[str, Any]], object]) -> bytes:
    """A right signature, by a trusted key, of a statement that is wrong."""

    class Wrong(Statement):
        def payload(self) -> bytes:
            return edited(super().payload(), edit)

    return bundle.sign(Wrong("m", {"a": "1" * 64, "b": "2" * 64}), signer)


STATEMENTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other-predicate": (lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"), "something else"),
    "other-type": (lambda s: s.update(_type="x"), "is no `https"),
    "two-subjects": (lambda s: s["subject"].append({}), "one subject"),
    "other-root": (lambda s: s["subject"][0]["digest"].update(sha256="0" * 64), "contradicts itself"),
    "no-root": (lambda s: s["subject"][0].pop("digest"), "contradicts itself"),
    "pieces": (lambda s: s["predicate"]["serialization"].update(method="shards"), "in pieces"),
    "other-hash": (lambda s: s["predicate"]["resources"][0].update(algorithm="blake2b"), "another digest"),
    "short-digest": (lambda s: s["predicate"]["resources"][0].update(digest="11"), "no digest"),
    "no-files": (lambda s: s["predicate"].update(resources=[]), "no files"),
    "twice": (lambda s: s["predicate"]["resources"][1].update(name="a"), "signed twice"),
    "odd-claims": (lambda s: s["predicate"].update(adaptr={"base": 1}), "text to text"),
    "no-predicate": (lambda s: s.pop("predicate"), "one subject"),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_signed_statement_that_is_not_understood_is_refused(mine: tuple[Path, Path], name: str) -> None:
    edit, said = STATEMENTS[name]
    raw = forged(Signer(keys.private(mine[0], no_password)), edit)
    with pytest.raises(SignatureError, match=said):
        bundle.proved(raw, Trust((keys.public(mine[1]),)))
