"""Sign and verify: what lies on a disk, and what is in the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adaptr.errors import InputError, NotFound, UsageError
from adaptr.files import record, replacing, require_file
from adaptr.registry import local
from adaptr.registry.reference import is_reference, parse
from adaptr.registry.signing import artifact, bundle, certificates, disk, keys
from adaptr.registry.signing.bundle import Signer, Trust, Verified
from adaptr.registry.store import Store
from adaptr.untrusted import whole


@dataclass(frozen=True)
class Signed:
    """A signature that was made. `signature`: the manifest that carries it, for artifacts; `out`: its file."""

    source: str
    digest: str
    signature: str
    out: str
    fingerprint: str
    certificate: str
    files: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Proven:
    """Signatures that were found right: whose, and of what."""

    source: str
    digest: str
    files: int
    claims: Mapping[str, str]
    signers: Sequence[Mapping[str, str]]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def sign(
    source: str,
    key: Path,
    certificate: Path | None = None,
    out: Path | None = None,
    *,
    password: Callable[[], str],
    force: bool = False,
) -> Signed:
    """Sign what is at a path, or an artifact: by reference, or by name in the store.

    Raises `InputError` for a key that is none, `OutputExists`.
    """
    path = Path(source) if _is_path(source) else None
    target = out or (None if path is None else disk.beside(path))
    if target is not None:
        require_file(target, force, [key, *filter(None, [certificate]), *_signed_files(path)])
    signer = Signer(keys.private(key, password), () if certificate is None else tuple(certificates.read(certificate)))
    if path is None or target is None:
        return _sign_artifact(source, signer, target, force)
    return _sign_path(path, signer, target, force)


def _signed_files(path: Path | None) -> list[Path]:
    """What is signed, and no signature may replace; one signature may replace another."""
    if path is None or not path.is_dir():
        return [] if path is None else [path]
    return [file for file in disk.listed(path) if file.suffix != disk.SUFFIX]


def _sign_path(path: Path, signer: Signer, target: Path, force: bool) -> Signed:
    raw = disk.sign(path, signer, target)
    _write(target, raw, force)
    if target.parent == path:
        record.add(path, target)
    return _signed(str(path), "", "", target, signer, disk.hashed(path, target))


def _sign_artifact(source: str, signer: Signer, out: Path | None, force: bool) -> Signed:
    store = Store.default()
    manifest = store.manifest(_digest(source, store))
    made, raw = artifact.sign(manifest, store, signer)
    if out is not None:
        _write(out, raw, force)
    return _signed(source, manifest.digest, made.digest, out, signer, artifact.stated(manifest).files)


def _signed(
    source: str, digest: str, signature: str, out: Path | None, signer: Signer, files: Mapping[str, str]
) -> Signed:
    subject = signer.chain[0].subject.rfc4514_string() if signer.chain else ""
    return Signed(source, digest, signature, "" if out is None else str(out), signer.fingerprint, subject, dict(files))


def _write(out: Path, raw: bytes, force: bool) -> None:
    with replacing(out, force) as file:
        file.write(raw + b"\n")


def verify(
    source: str, public: Sequence[Path] = (), roots: Sequence[Path] = (), signature: Path | None = None
) -> Proven:
    """Check the signatures of what is at a path, or of an artifact. Raises `SignatureError` if none is right."""
    if not (public or roots):
        raise UsageError("say whom you trust: `--key PUBLIC` or `--certificate-chain CA`")
    trust = Trust(
        tuple(keys.public(path) for path in public), tuple(one for path in roots for one in certificates.read(path))
    )
    if _is_path(source):
        path = Path(source)
        return _proven(source, "", [disk.verify(path, signature or disk.beside(path), trust)])
    store = Store.default()
    manifest = store.manifest(_digest(source, store))
    if signature is None:
        found = artifact.verify(manifest, store, trust)
    else:
        found = [artifact.check(manifest, whole(signature, bundle.MAX), trust)]
    for layer in manifest.layers:  # the signature is of digests: what is here must have them
        store.path(layer.digest)
    return _proven(source, manifest.digest, found)


def _proven(source: str, digest: str, found: Sequence[Verified]) -> Proven:
    signers = [{"key": one.fingerprint, "certificate": one.signer} for one in found]
    return Proven(source, digest, len(found[0].statement.files), found[0].statement.claims, signers)


def _is_path(source: str) -> bool:
    return not is_reference(source) and os.path.lexists(source)


def _digest(source: str, store: Store) -> Any:
    if is_reference(source):
        return local.pull(parse(source), store).digest
    try:
        return store.resolve(source)
    except (NotFound, UsageError):
        raise InputError(f"there is nothing at `{source}`, and the store has no such name") from None
