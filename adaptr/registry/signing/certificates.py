"""Certificates: from the one that signed up to one that is trusted, each link checked, today.

There is no trusted clock in an offline signature, so an expired certificate signs nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import InputError, SignatureError
from adaptr.registry.signing import keys
from adaptr.untrusted import whole

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

#: Links from a signature to what is trusted.
DEPTH = 8
#: The way on where a certificate can sign nothing.
RENEW = "ask for a signature by another certificate"
#: The longest file of certificates, in bytes: what an operating system trusts has a fifth of it.
LIMIT = 1 << 20


def read(path: Path) -> list[Certificate]:
    """All certificates of a PEM file. Raises `InputError`."""
    keys.require_library()
    from cryptography.x509 import load_pem_x509_certificates

    raw = whole(path, LIMIT)
    try:
        return load_pem_x509_certificates(raw)
    except ValueError as error:
        raise InputError(
            f"`{path}` holds no certificates in PEM: {str(error)[:120]}",
            hint="write them as `openssl x509 -in FILE -outform PEM` does",
        ) from None


def load(raw: Iterable[bytes]) -> list[Certificate]:
    """Certificates as a bundle has them, in DER. Raises `SignatureError`."""
    from cryptography.x509 import load_der_x509_certificate

    try:
        return [load_der_x509_certificate(one) for one in raw]
    except ValueError as error:
        raise SignatureError(
            f"the signature holds a certificate that is none: {str(error)[:120]}", hint=RENEW
        ) from None


def require_signing(leaf: Certificate) -> None:
    """Raises `SignatureError` for a certificate that was not made to sign code, or whose time is not now."""
    from cryptography.x509 import ExtendedKeyUsage, KeyUsage
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usage, purpose = _extension(leaf, KeyUsage), _extension(leaf, ExtendedKeyUsage)
    if purpose is None or ExtendedKeyUsageOID.CODE_SIGNING not in purpose:
        raise SignatureError(
            f"the certificate of {_name(leaf)} is not for signing (no extended key usage codeSigning)", hint=RENEW
        )
    if usage is not None and not usage.digital_signature:
        raise SignatureError(f"the certificate of {_name(leaf)} is not for signing (key usage)", hint=RENEW)
    if not keys.is_curve(leaf.public_key()):
        raise SignatureError(
            f"the certificate of {_name(leaf)}", verb="has", got="another key", want="P-256, P-384 or P-521", hint=RENEW
        )
    _require_now(leaf)
    _require_understood(leaf)


def require_chain(chain: Sequence[Certificate], roots: Sequence[Certificate]) -> None:
    """Raises `SignatureError` unless the first certificate leads, link by link, to one of `roots`."""
    require_signing(chain[0])
    current, between = chain[0], list(chain[1:])
    for depth in range(DEPTH):
        root = _issuer(current, roots, depth)
        if root is not None:
            _require_now(root)
            return
        found = _issuer(current, between, depth)
        if found is None:
            raise SignatureError(
                f"the certificate of {_name(chain[0])} leads to none that is trusted: {_name(current)} was "
                f"issued by {current.issuer.rfc4514_string()}, which is not among them",
                hint="give that authority by `--certificate-chain`, if you trust it",
            )
        between.remove(found)
        _require_now(found)
        current = found
    raise SignatureError(
        f"the certificate of {_name(chain[0])}", verb="has", got=f"more than {DEPTH} issuers", want="fewer"
    )


def _issuer(one: Certificate, among: Sequence[Certificate], depth: int) -> Certificate | None:
    """The certificate that issued `one` and may issue, with `depth` others between it and the first."""
    return next((other for other in among if _may_issue(other, depth) and _issued(one, other)), None)


def _issued(one: Certificate, by: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        one.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _may_issue(one: Certificate, depth: int) -> bool:
    from cryptography.x509 import BasicConstraints, KeyUsage

    basic, usage = _extension(one, BasicConstraints), _extension(one, KeyUsage)
    if basic is None or not basic.ca or (basic.path_length is not None and basic.path_length < depth):
        return False
    _require_understood(one)
    return usage is None or bool(usage.key_cert_sign)


def _require_now(one: Certificate) -> None:
    now = datetime.now(UTC)
    if not one.not_valid_before_utc <= now <= one.not_valid_after_utc:
        raise SignatureError(
            f"the certificate of {_name(one)} is valid from {one.not_valid_before_utc:%Y-%m-%d} to "
            f"{one.not_valid_after_utc:%Y-%m-%d}, and not now",
            hint="it has to be signed again with a new one",
        )


def _require_understood(one: Certificate) -> None:
    """An extension that is critical and not checked here may forbid anything."""
    from cryptography import x509

    known = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
    strange = [e.oid.dotted_string for e in one.extensions if e.critical and not isinstance(e.value, known)]
    if strange:
        raise SignatureError(
            f"the certificate of {_name(one)} has a critical extension that adaptr does not check: {strange}",
            hint=RENEW,
        )


def _extension(one: Certificate, kind: type) -> Any:
    from cryptography.x509 import ExtensionNotFound

    try:
        found: Any = one.extensions.get_extension_for_class(kind).value
    except ExtensionNotFound:
        return None
    except ValueError as error:
        raise SignatureError(f"the certificate of {_name(one)} is malformed: {str(error)[:120]}", hint=RENEW) from None
    return found


def _name(one: Certificate) -> str:
    return f"`{one.subject.rfc4514_string()[:200]}`"
