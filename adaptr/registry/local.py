"""From what people name to a folder on this machine: pulled if it must be, and never something else than it was."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import BadReference, DigestMismatch, NotFound, ReferenceMoved, TransferError
from adaptr.files.linked import snapshot
from adaptr.home import home
from adaptr.registry import lockfile, remotes
from adaptr.registry.digest import Digest
from adaptr.registry.lockfile import Pin
from adaptr.registry.reference import Reference, is_reference, parse
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


def path_of(source: str | os.PathLike[str], progress: Progress | None = None) -> Path:
    """The path of what `source` names: itself, or for a reference or a name in the store, a folder with its files.

    A path that exists is never taken for a name; of a folder of the Hub's cache it is the snapshot.
    """
    if not isinstance(source, str):
        return snapshot(Path(source))
    if is_reference(source):
        reference = parse(source)
        if _is_here(reference):
            return Path(reference.name)
        store = Store.default()
        return store.view(pull(reference, store, progress=progress).digest)
    found = None if os.path.lexists(source) else named(source)
    return snapshot(Path(source)) if found is None else found


def here(source: Any) -> Any:
    """The path of a source that lies on this machine without being pulled; what else it is, as it is."""
    if not isinstance(source, str) or not is_reference(source):
        return source
    reference = parse(source)
    return Path(reference.name) if reference.scheme == "file" else None


def _is_here(reference: Reference) -> bool:
    """Whether a `file://` names an adapter itself, not an OCI layout."""
    place = Path(reference.name)
    plain = not reference.tag and reference.digest is None
    return reference.scheme == "file" and plain and not (place / "oci-layout").is_file()


def named(text: str) -> Path | None:
    """The view of an artifact in the store by that name; None, and no store made, where there is none."""
    if not (home() / "store").is_dir():
        return None
    store = Store.default()
    try:
        digest = store.lookup(text)
    except BadReference:
        return None
    if digest is None:
        return None
    obey(store.reference_of(digest) or parse(text), digest, store)
    return store.view(digest)


def pull(
    reference: Reference,
    store: Store,
    *,
    frozen: bool = False,
    accept_change: bool = False,
    progress: Progress | None = None,
) -> Pulled:
    """Bring what a reference names into the store, unless it is there.

    A reference with a digest or commit, or with a pin in `adaptr.lock`, that is in the store asks no network. Raises
    `ReferenceMoved` where the lock file pins something else than the remote has, unless `accept_change`, and whatever
    the remote raises.
    """
    lock = lockfile.read()
    pin = None if accept_change else lock.pin(reference, frozen)
    known = _known(reference, store, pin)
    if known is not None and (pin is not None or reference.digest is not None or _fixed(reference, store, known)):
        obey(reference, known, store)
        return Pulled(reference, known, pin.source if pin else reference, known, True)
    source = pin.source if pin else _resolved(reference, known)
    if source is None:
        assert known is not None
        obey(reference, known, store)
        return Pulled(reference, known, store.reference_of(known) or reference, known, True)
    if known is not None and _same(source, known, store):
        obey(reference, known, store)
        return Pulled(reference, known, source, known, True)
    digest = remotes.of(reference.scheme).pull(source, store, progress)
    if pin is not None and digest != pin.digest:
        raise DigestMismatch(f"`{reference}` is pinned to {pin.digest} in `{lock.path}`; `{source}` gave {digest}")
    obey(reference, digest, store)
    store.put(store.manifest(digest), reference.local, str(source))
    if known not in {None, digest}:
        log.warning("`%s` moved: it was %s, it is %s now", reference, known, digest)
    return Pulled(reference, digest, source, known, False)


def lock(pulled: Pulled, accept_change: bool = False) -> None:
    """Pin a reference to what it was pulled as. Raises `ReferenceMoved` where it is pinned to another, unless asked."""
    found = lockfile.read()
    pin = found.pins.get(str(pulled.reference))
    if pin is not None and pin.digest != pulled.digest and not accept_change:
        raise ReferenceMoved(
            f"`{pulled.reference}` is pinned to {pin.digest} in `{found.path}` and is {pulled.digest} now; "
            "take the change with `--accept-change`"
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
