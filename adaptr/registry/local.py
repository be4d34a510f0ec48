"""From what people name to a folder on this machine: pulled if it must be, and never something else than it was."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import BadReference, DigestMismatch, NotFound, ReferenceMoved, TransferError, phrases
from adaptr.errors.called import call
from adaptr.files.home import home
from adaptr.registry import lockfile, remotes
from adaptr.registry.digest import Digest
from adaptr.registry.lockfile import Pin
from adaptr.registry.reference import Reference, parse
from adaptr.registry.store import Store

if TYPE_CHECKING:
    from adaptr.registry.remotes import Progress

log = logging.getLogger("adaptr")


@dataclass(frozen=True)
class Pulled:
    """An artifact that is in the store. `source`: where it came from, pinned; `before`: what the name meant until now;
    `cached`: whether nothing had to be asked for or fetched.
    """

    reference: Reference
    digest: Digest
    source: Reference
    before: Digest | None
    cached: bool


def is_here(reference: Reference) -> bool:
    """Whether a `file://` names an adapter itself, not an OCI layout."""
    place = Path(reference.name)
    plain = not reference.tag and reference.digest is None
    return reference.on_disk and plain and not (place / "oci-layout").is_file()


def has(name: str) -> bool:
    """Whether the store has an artifact of that name; no store is made for the question."""
    if not (home() / "store").is_dir():
        return False
    try:
        return Store.default().lookup(name) is not None
    except BadReference:
        return False


def near(name: str) -> str:
    """Which names of the store one that it has not may have been meant for: a question, or ""."""
    there = (home() / "store").is_dir()
    return phrases.meant(name, [entry.name for entry in Store.default().names()], 2) if there else ""


def named(name: str, held: bool = True) -> Digest:
    """What the store has under a name. Raises `NotFound`, and `PolicyError` where it is `held` against the policy."""
    store = Store.default()
    digest = store.resolve(name)
    if held:
        obey(store.reference_of(digest) or parse(name), digest, store)
    return digest


def view(digest: Digest, given: str) -> Path:
    """The folder with an artifact's files, which messages call as it was given."""
    folder = Store.default().view(digest)
    call(folder, given)
    return folder


def pull(
    reference: Reference,
    store: Store,
    *,
    frozen: bool = False,
    accept_change: bool = False,
    held: bool = True,
    progress: Progress | None = None,
) -> Pulled:
    """Bring what a reference names into the store, unless it is there.

    A reference with a digest or commit, or with a pin in `adaptr.lock`, that is in the store asks no network. Raises
    `ReferenceMoved` where the lock file pins something else than the remote has, unless `accept_change`, `PolicyError`
    where it is `held` against the policy, and whatever the remote raises.
    """
    pulled = _brought(reference, store, frozen, accept_change, progress)
    if held:
        obey(reference, pulled.digest, store)
    if not pulled.cached:
        store.put(store.manifest(pulled.digest), reference.local, str(pulled.source))
        if pulled.before not in {None, pulled.digest}:
            log.warning("`%s` moved: it was %s, it is %s now", reference, pulled.before, pulled.digest)
    return pulled


def _brought(
    reference: Reference, store: Store, frozen: bool, accept_change: bool, progress: Progress | None
) -> Pulled:
    """What a reference names, its blobs in the store: those that were there, or fetched."""
    lock = lockfile.read()
    pin = None if accept_change else lock.pin(reference, frozen)
    known = _known(reference, store, pin)
    if known is not None and (pin is not None or reference.digest is not None or _fixed(reference, store, known)):
        return Pulled(reference, known, pin.source if pin else reference, known, True)
    source = pin.source if pin else _resolved(reference, known)
    if source is None:
        assert known is not None
        return Pulled(reference, known, store.reference_of(known) or reference, known, True)
    if known is not None and _same(source, known, store):
        return Pulled(reference, known, source, known, True)
    digest = remotes.of(reference.scheme).pull(source, store, progress)
    if pin is not None and digest != pin.digest:
        raise DigestMismatch(
            f"`{reference}` is pinned to {pin.digest} in `{lock.path}`, and `{source}` gave {digest}",
            hint="if the new one is meant, take the entry out of the lock file and pull again",
        )
    return Pulled(reference, digest, source, known, False)


def lock(pulled: Pulled, accept_change: bool = False) -> None:
    """Pin a reference to what it was pulled as. Raises `ReferenceMoved` where it is pinned to another, unless asked."""
    found = lockfile.read()
    pin = found.pins.get(str(pulled.reference))
    if pin is not None and pin.digest != pulled.digest and not accept_change:
        raise ReferenceMoved(
            f"`{pulled.reference}` is pinned to {pin.digest} in `{found.path}` and is {pulled.digest} now",
            hint="take the change with `--accept-change`",
        )
    found.with_pin(pulled.reference, Pin(pulled.digest, pulled.source)).write()


def _known(reference: Reference, store: Store, pin: Pin | None) -> Digest | None:
    """What the store has under this reference, whole."""
    named = None if reference.pins_file else reference.digest
    digest = pin.digest if pin else named or store.pulled(reference)
    if digest is None or not store.has(digest):
        return None
    try:
        blobs = store.manifest(digest).blobs
    except (NotFound, DigestMismatch):
        return None
    return digest if all(store.has(blob.digest) for blob in blobs) else None


def _fixed(reference: Reference, store: Store, known: Digest) -> bool:
    """Whether a reference names a commit, which never moves, and that is what is there."""
    return len(reference.tag) == 40 and reference.scheme == "hf" and store.reference_of(known) == reference


def _resolved(reference: Reference, known: Digest | None) -> Reference | None:
    """The reference, pinned to what it names now; None where the network fails and what is here must do."""
    try:
        return pinned(reference, remotes.of(reference.scheme).resolve(reference))
    except TransferError as error:
        if known is None:
            raise
        log.warning("`%s` can't be asked (%s); what was pulled before, %s, is used", reference, error, known)
        return None


def pinned(reference: Reference, now: str) -> Reference:
    """A reference with what it names now: a digest, or a commit."""
    return reference.at(Digest(now)) if now.startswith("sha256:") else replace(reference, tag=now)


def _same(source: Reference, known: Digest, store: Store) -> bool:
    return source.digest == known or store.reference_of(known) == source


def obey(reference: Reference, digest: Digest, store: Store) -> None:
    """Hold an artifact against this machine's policy."""
    from adaptr.registry.signing import policy

    policy.require(reference, store.manifest(digest), store)
