"""How it is signed: a Sigstore bundle, version 0.3, around a DSSE envelope with one signature.

Formats: github.com/secure-systems-lab/dsse, sigstore's `protobuf-specs`, and the model-signing specification 1.0.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.errors import InputError, SignatureError, shown
from adaptr.format import canonical
from adaptr.registry import terms
from adaptr.registry.signing import certificates, keys, statement
from adaptr.registry.signing.statement import Statement
from adaptr.untrusted import json_object

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.x509 import Certificate

PAYLOAD = "application/vnd.in-toto+json"
#: A bundle that is longer is not read.
MAX = 1 << 20


@dataclass(frozen=True)
class Signer:
    """Who signs: a key, and where it has one its certificate, then those between it and the trusted one."""

    key: EllipticCurvePrivateKey
    chain: tuple[Certificate, ...] = ()

    def __post_init__(self) -> None:
        if self.chain and self.chain[0].public_key() != self.key.public_key():
            raise InputError("the certificate is of another key", hint="put its own first in the file")
        if self.chain:
            certificates.require_signing(self.chain[0])

    @property
    def fingerprint(self) -> str:
        return keys.fingerprint(self.key.public_key())


@dataclass(frozen=True)
class Trust:
    """Who is believed: keys, certificates that issue others, and keys of certificates by their fingerprint."""

    keys: tuple[EllipticCurvePublicKey, ...] = ()
    roots: tuple[Certificate, ...] = ()
    fingerprints: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Verified:
    """A signature that was found right: what it says, the fingerprint of its key, and its certificate's subject."""

    statement: Statement
    fingerprint: str
    signer: str = ""


def sign(what: Statement, signer: Signer) -> bytes:
    """The bundle, as canonical JSON. The same statement and key give the same bytes (RFC 6979)."""
    payload = what.payload()
    signature = signer.key.sign(_envelope(payload), keys.algorithm(signer.key, deterministic=True))
    document = {
        "mediaType": terms.BUNDLE,
        "verificationMaterial": {**_material(signer), "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return canonical.dumps(document).encode()


def proved(raw: bytes, trust: Trust) -> Verified:
    """What a bundle says, if somebody trusted signed it. Raises `SignatureError`."""
    keys.require_library()
    material, payload, signature = _opened(raw)
    key, subject = _signer(material, trust, payload, signature)
    return Verified(statement.parse(payload), keys.fingerprint(key), subject)


def _signer(material: dict[str, Any], trust: Trust, payload: bytes, signature: bytes) -> tuple[Any, str]:
    """The key that is trusted and made the signature, and the subject of its certificate."""
    chain = _chain(material)
    for known in trust.keys:
        if _made_by(known, payload, signature):
            return known, _subject(chain, known)
    if not chain or not (trust.roots or trust.fingerprints):
        raise SignatureError(
            _stranger(material, chain, trust),
            hint="give the key or the authority of the one who signed it, if you trust them",
        )
    key: Any = chain[0].public_key()
    if not (keys.is_curve(key) and keys.fingerprint(key) in trust.fingerprints):
        certificates.require_chain(chain, trust.roots)
    if not _made_by(key, payload, signature):
        raise SignatureError("the signature is not of this content by the key of its certificate", hint=statement.AGAIN)
    return key, _subject(chain, key)


def _subject(chain: list[Certificate], key: object) -> str:
    """Who the certificate says it is, if it is the key's: only then does the signature prove it."""
    return chain[0].subject.rfc4514_string() if chain and chain[0].public_key() == key else ""


def _stranger(material: dict[str, Any], chain: list[Certificate], trust: Trust) -> str:
    said = _hint(material, chain) or "nobody"
    if not trust.keys:
        kind = "with a certificate, and no certificates are" if chain else "with a bare key, and only certificates are"
        return f"it is signed {kind} trusted here; the key is {said}"
    known = ", ".join(keys.fingerprint(key)[:16] for key in trust.keys)
    return f"the signature is not by a trusted key, or not of this content: it names {said}; trusted: {known}"


def _made_by(key: EllipticCurvePublicKey, payload: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, _envelope(payload), keys.algorithm(key))
    except InvalidSignature:
        return False
    return True


def _envelope(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the type is signed too, and nothing can be read as something else."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def _material(signer: Signer) -> dict[str, Any]:
    if not signer.chain:
        return {"publicKey": {"hint": signer.fingerprint}}
    from cryptography.hazmat.primitives.serialization import Encoding

    raw = [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in signer.chain]
    return {"x509CertificateChain": {"certificates": [{"rawBytes": one} for one in raw]}}


def _chain(material: dict[str, Any]) -> list[Certificate]:
    found = material.get("x509CertificateChain")
    if found is None:
        return []
    listed = found.get("certificates") if isinstance(found, dict) else None
    if not isinstance(listed, list) or not 0 < len(listed) <= 2 * certificates.DEPTH:
        raise SignatureError("the signature's list of certificates is empty, too long or none", hint=statement.AGAIN)
    return certificates.load(_decoded(one.get("rawBytes") if isinstance(one, dict) else None) for one in listed)


def _hint(material: dict[str, Any], chain: list[Certificate]) -> str:
    if chain:
        return keys.fingerprint(chain[0].public_key())[:16]
    found = material.get("publicKey")
    hint = found.get("hint") if isinstance(found, dict) else None
    return shown(hint)[:16] if isinstance(hint, str) else ""


def _opened(raw: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """Material, payload and signature of a bundle that is plainly one."""
    if len(raw) > MAX:
        raise SignatureError(
            "the signature", verb="has", got=f"{len(raw)} bytes", want=f"at most {MAX}", hint=statement.AGAIN
        )
    document = json_object(raw, "the signature", SignatureError)
    if document.get("mediaType") != terms.BUNDLE:
        raise SignatureError("the signature", got=f"`{shown(document.get('mediaType'))}`", want=f"`{terms.BUNDLE}`")
    envelope, material = document.get("dsseEnvelope"), document.get("verificationMaterial")
    if not isinstance(envelope, dict) or not isinstance(material, dict):
        raise SignatureError("the bundle has no DSSE envelope or no verification material", hint=statement.AGAIN)
    if envelope.get("payloadType") != PAYLOAD:
        raise SignatureError(f"`{shown(envelope.get('payloadType'))}` is signed", want=f"`{PAYLOAD}`")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise SignatureError(
            "the bundle has several signatures, which can't be told apart, or none",
            want="exactly one",
            hint=statement.AGAIN,
        )
    return material, _decoded(envelope.get("payload")), _decoded(signatures[0].get("sig"))


def _decoded(text: object) -> bytes:
    try:
        if not isinstance(text, str):
            raise ValueError
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise SignatureError("the bundle has something else where base64 must be", hint=statement.AGAIN) from None
