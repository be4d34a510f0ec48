"""Artifacts as people handle them: pulled, pushed, copied, looked at, listed."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr import foreign
from adaptr.artifacts.reports import Artifact, Known, Sent
from adaptr.errors import UsageError, phrases
from adaptr.errors.text import size
from adaptr.files import file_named, replacing, replacing_folder, require_apart, require_file, require_folder
from adaptr.format import header as headers
from adaptr.format import manifest as manifests
from adaptr.format.header import Header
from adaptr.format.io import from_header
from adaptr.registry import local, lockfile, pack, remotes, terms
from adaptr.registry.digest import Digest
from adaptr.registry.left_out import left_out
from adaptr.registry.reference import Reference, parse
from adaptr.registry.store import Store
from adaptr.sources.disk import save
from adaptr.sources.given import Given, What, label, one
from adaptr.sources.open import reads
from adaptr.sources.resolve import Source, remote

if TYPE_CHECKING:
    from adaptr.adapter import Adapter
    from adaptr.files.meter import Progress

log = logging.getLogger("adaptr")
#: The format in which it is already.
AS_IS = "as-is"


def pull(
    reference: str,
    out: str | os.PathLike[str] | None = None,
    to: str = AS_IS,
    *,
    lock: bool = False,
    frozen: bool = False,
    accept_change: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Pull an artifact into the local store, verified, and write its files to the folder `out`; to the file `out` where
    that is called `*.safetensors`, of an adapter that is one file.

    `to`: the format to write it in. `lock`: pin it in `adaptr.lock`; `frozen`: refuse what is not
    pinned; `accept_change`: take what a moved reference names now. Raises `BadReference`, `NotFound`, `AuthError` and
    `TransferError` for what is not there or not got, an `IntegrityError` for bytes or signatures that are not what they
    should be, `OutputExists` unless `force`, and `UsageError` for a format of files that nobody wants.
    """
    _known(to)
    place = None if out is None else Path(out)
    if place is not None:
        if out is not None and _is_file(place):
            file_named(out, "an adapter")
        (require_file if _is_file(place) else require_folder)(place, force, reads(reference))
    elif to != AS_IS:
        raise UsageError(
            f"the format `{to}` is one of files, and none are to be written", hint="say where, or leave it out"
        )
    where, store = remote(reference), Store.default()
    pulled = local.pull(where, store, frozen=frozen, accept_change=accept_change, progress=progress)
    if lock or lockfile.read().exists:
        local.lock(pulled, accept_change)
    if place is not None:
        _export(store, pulled.digest, reference, place, to, force)
    moved = pulled.before if pulled.before not in {None, pulled.digest} else ""
    described = _described(store, pulled.digest, where.local, str(pulled.source))
    return replace(described, cached=pulled.cached, moved_from=str(moved or ""), out="" if out is None else str(out))


def push(
    source: Given, reference: str, to: str = AS_IS, *, force: bool = False, progress: Progress | None = None
) -> Sent:
    """Publish `source`, an adapter or a base model, at `reference`: a file, a folder, a reference, a name in the store,
    or an adapter in memory. `to`: the format to publish it in. `force`: put it in the place of another of that name.

    Raises `AuthError`, `TransferError` and their kin for what a registry says or the network does not, `OutputExists`.
    """
    _known(to)
    where, store, what = remote(reference), Store.default(), one(source)
    _require_outside(what, where)
    digest = _packed(what, to, store)
    manifest = store.manifest(digest)
    if manifest.kind == terms.MODEL:
        log.warning("`%s` is a base model, published whole: %s", label(what), size(manifest.size))
    pushed = remotes.of(where.scheme).push(store, digest, where, progress, force)
    if not where.on_disk:  # a folder here is no name for others, and needs none to be found again
        # named only now: what was refused there must not be taken for what is there
        store.put(store.manifest(digest), where.local, str(where.at(digest)) if where.scheme == "oci" else "")
    attached = len(store.referrers(digest))
    left = left_out(what.place) if isinstance(what, Source) and what.place is not None else {}
    return Sent(str(pushed.reference), digest, manifest.size, pushed.uploaded, pushed.skipped, attached, left)


def copy(source: str, reference: str, *, force: bool = False, progress: Progress | None = None) -> Sent:
    """Bring an artifact from one place to another, through the store; the digest stays."""
    remote(source)
    return push(source, reference, force=force, progress=progress)


def info(reference: str) -> Known:
    """What an artifact is, without pulling it."""
    where = remote(reference)
    found = remotes.of(where.scheme).info(where)
    notes = found.manifest.annotations if found.manifest else found.annotations
    header = headers.parse(found.header, 8 + len(found.header)) if found.header else None
    adapter = _headed(header) if header else None
    base = adapter.base if adapter else None
    return Known(
        reference=str(found.reference),
        digest=found.digest,
        revision=found.revision,
        kind=notes.get(terms.KIND, ""),
        method=adapter.method if adapter else notes.get(terms.METHOD, ""),
        rank=notes.get(terms.RANK, ""),
        base=base.id if base and base.id else notes.get(terms.BASE_MODEL, ""),
        targets=len(adapter.all_targets) if adapter else 0,
        tensors=len(header.entries) if header else 0,
        numbers=sum(entry.numel for entry in header.entries.values()) if header else 0,
        license=adapter.license if adapter else notes.get(terms.LICENSES, ""),
        files=found.files,
        annotations=notes,
        lineage=adapter.lineage if adapter else {},
    )


def _headed(header: Header) -> Adapter | None:
    """The adapter that a header describes, None for a file of another format."""
    if manifests.KEY not in header.metadata:
        return None
    return from_header(header, dict.fromkeys(header.entries))  # type: ignore[arg-type]  # its tensors stay there


def list() -> Sequence[Artifact]:
    """What the store of this user has, by name. Nothing is read but its lists. Raises `StoreUnsafe` for a store that
    others can write to, `BadManifest` for lists that are none.
    """
    store = Store.default()
    return [_described(store, entry.digest, entry.name, entry.reference) for entry in store.names()]


def tag(source: Given, name: str) -> Artifact:
    """Give `source`, an artifact, the name `name` in the store; one that is not there is packed first. Raises
    `BadReference` for what is no reference, `UsageError` for one that is no name, and what reading the source raises.
    """
    store = Store.default()
    named = parse(name)
    if named.scheme or named.digest:
        raise UsageError(f"`{name}` is no name in the store", want="`name` or `name:tag`")
    digest = _packed(one(source), AS_IS, store)
    store.put(store.manifest(digest), named.local)
    return _described(store, digest, named.local, "")


def remove(name: str) -> None:
    """Take a name out of the store."""
    Store.default().untag(name)


def _known(form: str) -> None:
    known = (AS_IS, *foreign.packable())
    if form not in known:
        raise UsageError(f"there is no format `{form}` for artifacts", hint=f"known: {', '.join(known)}")


def _require_outside(what: What, where: Reference) -> None:
    """Raises `OutputExists` for a layout here that would lie in what is published, or in the store."""
    if where.on_disk:
        layout = Path(where.name)  # another tag in the layout that is read takes nothing away
        require_apart(layout, [path for path in reads(what) if path.resolve() != layout.resolve()])


def _packed(what: What, form: str, store: Store) -> Digest:
    """The manifest digest of `what` in the store, packed where it is none yet, converted where `form` asks for it."""
    if not isinstance(what, Source):
        return _written(what, form, store)
    what.require_there()
    if what.place is None:
        digest = what.artifact()
        same = form in {AS_IS, store.manifest(digest).annotations.get(terms.FORMAT)}
        return digest if same else _written(what, form, store)
    if form == AS_IS:
        return store.put(pack.stored(what.place, store))
    if what.place.is_dir():
        pack.plain(what.place)
    return _written(what, form, store)


def _written(what: What, form: str, store: Store) -> Digest:
    """An adapter written in a format, and packed."""
    with tempfile.TemporaryDirectory(prefix="adaptr-") as made:
        out = Path(made) / "artifact"
        _convert(what, out, form)
        return store.put(pack.stored(out, store))


def _is_file(out: Path) -> bool:
    """Whether an output is called as an adapter's file."""
    return out.suffix == ".safetensors" and not out.is_dir()


def _export(store: Store, digest: Digest, given: str, out: Path, form: str, force: bool) -> None:
    if _is_file(out):
        _one_file(store, digest, given, out, form, force)
        return
    with replacing_folder(out, force) as folder:
        if form in {AS_IS, store.manifest(digest).annotations.get(terms.FORMAT)}:
            store.export(digest, folder)
        else:
            _convert(Source(given, local.view(digest, given)), folder, form)


def _one_file(store: Store, digest: Digest, given: str, out: Path, form: str, force: bool) -> None:
    """The very file that was pushed. Raises `UsageError` for an artifact of several, or in another format."""
    layers = {layer.title: layer.digest for layer in store.manifest(digest).layers}
    if form not in {AS_IS, foreign.OWN} or layers.keys() != {pack.NAME}:
        raise UsageError(
            f"`{given}` is {phrases.listed(f'`{name}`' for name in layers)}, and `{out}` is the name of one file",
            hint="name a folder; `adaptr convert` makes one file of it",
        )
    with replacing(out, force) as file, open(store.path(layers[pack.NAME]), "rb") as blob:
        shutil.copyfileobj(blob, file)


def _convert(what: What, out: Path, form: str) -> None:
    from adaptr.converting.convert import convert

    file = out / pack.NAME
    if form == AS_IS:  # what is in memory, with no conversion in its lineage
        file.parent.mkdir()
        save(what, file)
        return
    if form == foreign.OWN:
        file.parent.mkdir(parents=True, exist_ok=True)
    convert(what, file if form == foreign.OWN else out, form, force=True)


def _described(store: Store, digest: Digest, name: str, reference: str) -> Artifact:
    manifest = store.manifest(digest)
    files = {file: layer.size for file, layer in manifest.files().items()}
    return Artifact(name, digest, reference, manifest.size, files, manifest.annotations)
