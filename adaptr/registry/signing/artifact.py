"""Signatures of artifacts in the store: manifests that refer to the one they sign, in the shape that cosign gives them.

Layers name their files by digest, so nothing is hashed again; the manifest's digest and what it says of the base are
signed too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adaptr.errors import SignatureError
from adaptr.registry import terms
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import EMPTY, Descriptor, Manifest
from adaptr.registry.signing import bundle, statement
from adaptr.registry.signing.bundle import Signer, Trust, Verified
from adaptr.registry.signing.statement import Statement

if TYPE_CHECKING:
    from adaptr.registry.store import Store

CONTENT, PREDICATE = "dev.sigstore.bundle.content", "dev.sigstore.bundle.predicateType"
#: Claim to annotation. A claim is only there where the annotation is.
CLAIMED = {"base": terms.BASE_MODEL, "name": terms.TITLE, "version": terms.VERSION}


def sign(manifest: Manifest, store: Store, signer: Signer) -> tuple[Manifest, bytes]:
    """Sign an artifact of the store; returns the manifest that carries the signature, and the bundle.

    Where the same key signed the same before, it is the same manifest.
    """
    raw = bundle.sign(stated(manifest), signer)
    config = Descriptor(terms.OCI_EMPTY, store.add_bytes(EMPTY), len(EMPTY))
    layer = Descriptor(terms.BUNDLE, store.add_bytes(raw), len(raw))
    notes = {CONTENT: "dsse-envelope", PREDICATE: statement.PREDICATE}
    subject = Descriptor(manifest.media_type, manifest.digest, len(manifest.raw))
    made = Manifest.make(config, [layer], terms.BUNDLE, notes, subject)
    store.put(made)
    return made, raw


def proved(manifest: Manifest, store: Store, trust: Trust) -> list[Verified]:
    """The signatures of an artifact that are right and trusted. Raises `SignatureError` if there are none."""
    found, wrong = [], []
    for raw in bundles(manifest, store):
        try:
            found.append(proved_by(manifest, raw, trust))
        except SignatureError as error:
            wrong.append(str(error))
    if found:
        return found
    if not wrong:
        raise SignatureError(
            f"{manifest.digest} is not signed, as far as the store knows",
            hint="pull it again with its signatures, or ask its owner to sign it",
        )
    raise SignatureError(
        f"{manifest.digest} has {len(wrong)} signature(s) and none that is right: {wrong[0]}",
        hint="give the key of the one who signed it, or ask them to sign it again",
    )


def proved_by(manifest: Manifest, raw: bytes, trust: Trust) -> Verified:
    """Hold one bundle against an artifact. Raises `SignatureError`."""
    found = bundle.proved(raw, trust)
    want = stated(manifest)
    statement.compare(found.statement.files, want.files, str(manifest.digest))
    if dict(found.statement.claims) != dict(want.claims):
        raise SignatureError(
            f"the files of {manifest.digest} are what was signed, the artifact is not: the signature says "
            f"{_listed(found.statement.claims)}, the artifact is {_listed(want.claims)}",
            hint="ask its owner to sign this one",
        )
    return found


def bundles(manifest: Manifest, store: Store) -> Iterator[bytes]:
    """The signatures that refer to an artifact, unread."""
    for one in store.referrers(manifest.digest):
        if one.artifact_type == terms.BUNDLE and one.annotations.get(PREDICATE) in {None, statement.PREDICATE}:
            for layer in one.layers:
                if layer.media_type == terms.BUNDLE and layer.size <= bundle.MAX:
                    yield store.read(Digest(layer.digest), bundle.MAX)


def stated(manifest: Manifest) -> Statement:
    """What a signature of this artifact says."""
    files = {name: layer.digest.hex for name, layer in manifest.files().items()}
    if not files:
        raise SignatureError(f"{manifest.digest} has no files that could be signed", hint="sign an artifact with files")
    said = {claim: manifest.annotations.get(key, "") for claim, key in CLAIMED.items()}
    claims = {"manifest": str(manifest.digest), **{key: value for key, value in said.items() if value}}
    return Statement(said["name"] or manifest.digest.short, files, claims)


def _listed(claims: object) -> str:
    assert hasattr(claims, "items")
    return ", ".join(f"{key} {value}" for key, value in sorted(claims.items())) or "nothing of it"
