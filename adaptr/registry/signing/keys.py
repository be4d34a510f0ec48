"""Keys: elliptic curves P-256, P-384 and P-521 in PEM files, which openssl and model_signing make and read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import InputError, phrases
from adaptr.untrusted import whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

#: Longer files are no keys.
MAX = 64 * 1024
MAKE = "`openssl ecparam -name prime256v1 -genkey -noout -out KEY` makes one"


def require_library() -> None:
    """Raises `MissingExtra` where `cryptography` is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise phrases.extra("signing", "cryptography", "sign") from None


def private(path: Path, password: Callable[[], str]) -> EllipticCurvePrivateKey:
    """A private key. `password` is asked only for a key that has one. Raises `InputError`."""
    require_library()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    raw = _read(path)
    try:
        try:
            key: Any = load_pem_private_key(raw, None)
        except TypeError:
            key = load_pem_private_key(raw, password().encode())
    except (ValueError, TypeError) as error:
        raise InputError(
            f"`{path}` is no private key in PEM, or the password is another: {_first(error)}", hint=MAKE
        ) from None
    except Exception as error:  # cryptography's own, for curves and ciphers that it lacks
        raise InputError(f"`{path}` can't be used: {_first(error)}", hint=MAKE) from None
    _require_curve(key, path)
    found: EllipticCurvePrivateKey = key
    return found


def public(path: Path) -> EllipticCurvePublicKey:
    """A public key: of a public PEM file or of a certificate. Raises `InputError`."""
    require_library()
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    raw = _read(path)
    if b"PRIVATE KEY" in raw:
        raise InputError(
            f"`{path}` is a private key, which nobody needs to verify with",
            hint="`openssl ec -in KEY -pubout` gives its other half",
        )
    try:
        key: Any = (
            load_pem_x509_certificate(raw).public_key() if b"BEGIN CERTIFICATE" in raw else load_pem_public_key(raw)
        )
    except Exception as error:
        raise InputError(
            f"`{path}` is no public key in PEM: {_first(error)}",
            hint="write one of the private key with `openssl pkey -in FILE -pubout`",
        ) from None
    _require_curve(key, path)
    found: EllipticCurvePublicKey = key
    return found


def fingerprint(key: CertificatePublicKeyTypes) -> str:
    """The name of a key: sha256 of its public half in PEM, as model_signing's hint has it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def algorithm(key: EllipticCurvePublicKey | EllipticCurvePrivateKey, deterministic: bool = False) -> ECDSA:
    """ECDSA with the hash that belongs to the curve."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    kinds: dict[int, Any] = {256: hashes.SHA256, 384: hashes.SHA384, 521: hashes.SHA512}
    made = kinds[key.curve.key_size]()
    return ec.ECDSA(made, deterministic_signing=True) if deterministic else ec.ECDSA(made)


def is_curve(key: object) -> bool:
    """Whether a key is of one of the curves of the format."""
    return getattr(getattr(key, "curve", None), "name", "") in {"secp256r1", "secp384r1", "secp521r1"}


def _require_curve(key: object, path: Path) -> None:
    if not is_curve(key):
        raise InputError(
            f"`{path}`", got=f"a {type(key).__name__}", want="an elliptic curve P-256, P-384 or P-521", hint=MAKE
        )


def _read(path: Path) -> bytes:
    return whole(path, MAX)


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0][:120]
