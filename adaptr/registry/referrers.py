"""What is attached to an artifact in a registry: signatures and the like, found by the digest that they speak of.

Registries with the referrers API (OCI distribution-spec 1.1) keep the list themselves. For the others, which are many,
the specification has a tag, `sha256-<hex>`, whose index the client writes. Two that write it at once lose each other's
entry, so a writer looks again until its own is there.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

from adaptr.errors import AuthError, IntegrityError, NotFound, RegistryError, TransferError
from adaptr.registry import manifest as manifests
from adaptr.registry import terms
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor, Manifest

if TYPE_CHECKING:
    from adaptr.registry.client.registry import Registry
    from adaptr.registry.store import Store

log = logging.getLogger("adaptr")
#: How often an entry is written and looked for, and the seconds between.
ROUNDS, PAUSE = 20, (0.05, 0.2)
#: The most attachments that are looked at, and the bytes that one may have to come along with a pull.
MOST, SMALL = 64, 1 << 20


def tag_of(digest: Digest) -> str:
    """The tag of the list for registries without the API."""
    return f"sha256-{digest.hex}"


def attach(registry: Registry, repository: str, store: Store, attachment: Manifest) -> None:
    """Push an attachment of the store, whose subject is in `repository`, so that it is found by its subject.

    Raises `TransferError` when others write the list so often that the entry does not stay.
    """
    from adaptr.registry.client.upload import upload

    assert attachment.subject is not None
    for blob in attachment.blobs:
        upload(registry, repository, blob, store.path(blob.digest), lambda _: None)
    answer = registry.put_manifest(repository, attachment.digest, attachment.raw, attachment.media_type)
    if answer.get("oci-subject") != attachment.subject.digest:
        _enlist(registry, repository, attachment)


def listed(registry: Registry, repository: str, digest: Digest) -> list[Descriptor]:
    """What the registry lists as attached to an artifact: a hint, as each says itself what it is attached to."""
    found = registry.referrers(repository, digest)
    return _entries(registry, repository, digest) if found is None else list(found)


def fetched(registry: Registry, repository: str, store: Store, digest: Digest) -> list[Digest]:
    """Bring the signatures of an artifact into the store; those that are of another, or broken, are left."""
    try:
        entries = listed(registry, repository, digest)
    except (IntegrityError, RegistryError) as error:
        log.warning("`%s` can't list what is attached to %s: %s", registry.host, digest, error)
        return []
    told = sorted(entries, key=lambda entry: entry.artifact_type != terms.BUNDLE)  # what says nothing comes last
    found = [d for d in told if d.artifact_type in {terms.BUNDLE, ""}][:MOST]
    return [d.digest for d in found if store.has(d.digest) or _tried(registry, repository, store, d, digest)]


def _tried(registry: Registry, repository: str, store: Store, entry: Descriptor, subject: Digest) -> bool:
    """Fetch one attachment; one that is broken or of no use keeps nobody from the others, nor from the artifact."""
    try:
        return _fetch(registry, repository, store, entry, subject)
    except (IntegrityError, RegistryError) as error:
        log.warning("%s, which is said to be attached to %s, is left: %s", entry.digest, subject, error)
        return False


def _fetch(registry: Registry, repository: str, store: Store, entry: Descriptor, subject: Digest) -> bool:
    attachment = manifests.parse(*registry.manifest(repository, entry.digest))
    said = attachment.subject
    if said is None or said.digest != subject or attachment.artifact_type != terms.BUNDLE or attachment.size > SMALL:
        return False
    for blob in attachment.blobs:
        store.fetch(blob, lambda start, blob=blob: registry.read(repository, blob.digest, start))  # type: ignore[misc]
    store.put(attachment)
    return True


def _entries(registry: Registry, repository: str, digest: Digest) -> list[Descriptor]:
    try:
        raw, kind = registry.manifest(repository, tag_of(digest))
    except NotFound:
        return []
    return list(manifests.parse_list(raw, kind))


def _enlist(registry: Registry, repository: str, attachment: Manifest) -> None:
    """Write the entry into the list of the tag until it is there after a while."""
    assert attachment.subject is not None
    subject = attachment.subject.digest
    described = attachment.descriptor
    entry = Descriptor(
        described.media_type, described.digest, described.size, attachment.annotations, attachment.artifact_type
    )
    written = False
    for number in range(ROUNDS):
        entries = _entries(registry, repository, subject)
        if any(one.digest == entry.digest for one in entries):
            if written or number == 0:
                return
        else:
            written = _write(registry, repository, tag_of(subject), [*entries, entry])
        time.sleep(random.uniform(*PAUSE) * (1 + number / 4))
    raise TransferError(
        f"`{registry.host}`: others write the list of what is attached to {subject} all the time, and "
        f"{attachment.digest} is pushed but not in it",
        hint="push again",
    )


def _write(registry: Registry, repository: str, tag: str, entries: list[Descriptor]) -> bool:
    """Whether the registry took the list. It may say that it does not know an entry which it is just being given."""
    try:
        registry.put_manifest(repository, tag, manifests.index_bytes(entries), terms.OCI_INDEX)
    except (AuthError, NotFound, TransferError):
        raise
    except RegistryError:
        return False
    return True
