"""Keys, certificates and what is signed with them, for tests of signatures and policies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from adaptr.artifacts import trust
from adaptr.registry import terms
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.store import Store

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
CURVES = {256: ec.SECP256R1, 384: ec.SECP384R1, 521: ec.SECP521R1}
DAY = timedelta(days=1)
Pair = tuple[Any, x509.Certificate]


def no_password() -> str:
    raise AssertionError("nobody should ask")


def key(path: Path, bits: int = 256, password: bytes = b"") -> tuple[Path, Path]:
    """A private key's file, and its public half's."""
    made = ec.generate_private_key(CURVES[bits]())
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(made.private_bytes(PEM, PKCS8, lock))
    public = path.with_suffix(".pub")
    public.write_bytes(made.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return path, public


def sign(path: Path, private: Path, **more: Any) -> trust.Signed:
    return trust.sign(str(path), private, password=no_password, **more)


def issued(name: str, by: Pair | None = None, ca: bool = True, **more: Any) -> Pair:
    private = more.get("key") or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by[1].subject if by else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + more.get("start", -DAY))
        .not_valid_after(now + more.get("end", DAY))
        .add_extension(x509.BasicConstraints(ca, more.get("length")), critical=True)
    )
    if not ca:
        purpose = more.get("purpose", ExtendedKeyUsageOID.CODE_SIGNING)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    for extension in more.get("also", ()):
        builder = builder.add_extension(extension, critical=True)
    return private, builder.sign(by[0] if by else private, hashes.SHA256())


def pem(path: Path, *chain: Pair) -> Path:
    path.write_bytes(b"".join(one[1].public_bytes(PEM) for one in chain))
    return path


def secret(path: Path, pair: Pair) -> Path:
    path.write_bytes(pair[0].private_bytes(PEM, PKCS8, serialization.NoEncryption()))
    return path


def put(store: Store, name: str = "", **annotations: str) -> Manifest:
    config = Descriptor(terms.MODEL_CONFIG, store.add_bytes(b"{}"), 2)
    layers = []
    for file, data in {"adapter_model.safetensors": b"weights", "adapter_config.json": b"{}"}.items():
        notes = {terms.TITLE: file, terms.FILEPATH: file}
        layers.append(Descriptor(terms.WEIGHTS_LAYER, store.add_bytes(data), len(data), notes))
    said = {terms.BASE_MODEL: "acme/base@1", terms.TITLE: "style", terms.VERSION: "1.2", **annotations}
    made = Manifest.make(config, layers, terms.MODEL_ARTIFACT, said)
    store.put(made, name)
    return made
