"""Sign and verify: what lies on a disk, and what is in the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adaptr.errors import UsageError
from adaptr.files import file_named, record, replacing, require_file
from adaptr.registry.signing import artifact, bundle, certificates, disk, keys
from adaptr.registry.signing.bundle import Signer, Trust, Verified
from adaptr.registry.store import Store
from adaptr.report import Report
from adaptr.sources.resolve import Place, Source, resolve
from adaptr.untrusted import whole


@dataclass(frozen=True)
class Signed(Report):
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
class Proven(Report):
    """Signatures that were found right: whose, and of what."""

    source: str
    digest: str
    files: int
    claims: Mapping[str, str]
    signers: Sequence[Mapping[str, str]]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def sign(
    source: Place,
    key: str | os.PathLike[str],
    certificate: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    password: Callable[[], str] = str,
    force: bool = False,
) -> Signed:
    """Sign `source`, what is at a path, or an artifact: by reference, or by name in the store.

    `key`: a private key; `password` gives its password, where it has one. `certificate`: that of the key and its
    issuers'. `out`: where the signature goes, without it beside what is signed. Raises `InputError` for a key that is
    none, `OutputExists`.
    """
    what, secret, chain = resolve(source), Path(key), None if certificate is None else Path(certificate)
    what.require_there()
    target = file_named(out) if out is not None else None if what.place is None else disk.beside(what.place)
    if target is not None:
        require_file(target, force, [secret, *filter(None, [chain]), *_signed_files(what.place)])
    signer = Signer(keys.private(secret, password), () if chain is None else tuple(certificates.read(chain)))
    if what.place is None or target is None:
        return _sign_artifact(what, signer, target, force)
    return _sign_path(what.place, signer, target, force)


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


def _sign_artifact(source: Source, signer: Signer, out: Path | None, force: bool) -> Signed:
    store = Store.default()
    manifest = store.manifest(source.artifact(held=False))
    made, raw = artifact.sign(manifest, store, signer)
    if out is not None:
        _write(out, raw, force)
    return _signed(source.given, manifest.digest, made.digest, out, signer, artifact.stated(manifest).files)


def _signed(
    source: str, digest: str, signature: str, out: Path | None, signer: Signer, files: Mapping[str, str]
) -> Signed:
    subject = signer.chain[0].subject.rfc4514_string() if signer.chain else ""
    return Signed(source, digest, signature, "" if out is None else str(out), signer.fingerprint, subject, dict(files))


def _write(out: Path, raw: bytes, force: bool) -> None:
    with replacing(out, force) as file:
        file.write(raw + b"\n")


def proven(
    source: Place, public: Sequence[Path] = (), roots: Sequence[Path] = (), signature: Path | None = None
) -> Proven:
    """Check the signatures of what is at a path, or of an artifact. Raises `SignatureError` if none is right."""
    if not (public or roots):
        raise UsageError(
            "nobody is named whose signature is right",
            hint="say whom you trust: `--key PUBLIC` or `--certificate-chain CA`",
        )
    trust = Trust(
        tuple(keys.public(path) for path in public), tuple(one for path in roots for one in certificates.read(path))
    )
    what = resolve(source)
    what.require_there()
    if what.place is not None:
        return _proven(what.given, "", [disk.proved(what.place, signature or disk.beside(what.place), trust)])
    store = Store.default()
    manifest = store.manifest(what.artifact(held=False))
    if signature is None:
        found = artifact.proved(manifest, store, trust)
    else:
        found = [artifact.proved_by(manifest, whole(signature, bundle.MAX), trust)]
    for layer in manifest.layers:  # the signature is of digests: what is here must have them
        store.path(layer.digest)
    return _proven(what.given, manifest.digest, found)


def _proven(source: str, digest: str, found: Sequence[Verified]) -> Proven:
    signers = [{"key": one.fingerprint, "certificate": one.signer} for one in found]
    return Proven(source, digest, len(found[0].statement.files), found[0].statement.claims, signers)
