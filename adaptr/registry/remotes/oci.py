"""`oci://`: registries that speak the OCI distribution protocol, which is nearly all of them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from adaptr.errors import IntegrityError, NotFound, ReferenceMoved
from adaptr.files.meter import Meter
from adaptr.registry import check, glance, referrers
from adaptr.registry import manifest as manifests
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.reference import Reference
from adaptr.registry.remotes import Found, Info, Progress, Pushed, Remote

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from adaptr.registry.client.registry import Registry
    from adaptr.registry.store import Store

T = TypeVar("T")

#: Blobs carried at once.
WORKERS = 4
#: Tags that say a version: once given, they stay.
_VERSION = re.compile(r"v?\d+(?:\.\d+)*(?:[-+._][0-9A-Za-z.+_-]+)?\Z")


class Oci(Remote):
    """An OCI registry."""

    name = "oci"

    def pull(self, reference: Reference, store: Store, progress: Progress | None = None) -> Digest:
        digest = reference.digest
        manifest = _manifest(reference) if digest is None or not store.has(digest) else store.manifest(digest)
        check.refuse_pickles(manifest)
        meter = Meter(manifest.size, "pulling", progress)
        registry = None if all(store.has(blob.digest) for blob in manifest.blobs) else _registry(reference)

        def fetch(blob: Descriptor, count: Callable[[int], None]) -> None:
            if blob.data is not None:
                store.add_bytes(blob.data)
            elif registry is not None:
                store.fetch(blob, _source(registry, reference.name, blob), count)

        _each(manifest.blobs, fetch, meter.add)
        check.require_sound(manifest, store)
        found = store.put(manifest, "", str(reference))
        if registry is not None:
            referrers.fetched(registry, reference.name, store, found)
        return found

    def push(
        self, store: Store, digest: Digest, reference: Reference, progress: Progress | None = None, force: bool = False
    ) -> Pushed:
        from adaptr.registry.client.upload import upload

        if reference.digest not in {None, digest}:
            raise IntegrityError(
                "what is pushed", got=digest, want=f"the digest in `{reference}`", hint="leave the digest out"
            )
        manifest, registry = store.manifest(digest), _registry(reference)
        _require_free(registry, reference, digest, force)
        meter, origin = Meter(manifest.size, "pushing", progress), store.reference_of(digest)
        source = origin.name if origin and (origin.scheme, origin.host) == ("oci", reference.host) else ""
        sent: list[int] = []

        def send(blob: Descriptor, count: Callable[[int], None]) -> None:
            sent.append(upload(registry, reference.name, blob, store.path(blob.digest), count, source))

        _each(manifest.blobs, send, meter.add)
        registry.put_manifest(reference.name, digest, manifest.raw, manifest.media_type)
        for attachment in store.referrers(digest):
            referrers.attach(registry, reference.name, store, attachment)
        if reference.tag:  # the last step: who finds the tag finds everything
            registry.put_manifest(reference.name, reference.tag, manifest.raw, manifest.media_type)
        _require_there(registry, reference, manifest)
        return Pushed(reference.at(digest), digest, sum(sent), manifest.size - sum(sent))

    def resolve(self, reference: Reference) -> str:
        return str(_manifest(reference).digest)

    def info(self, reference: Reference) -> Info:
        manifest = _manifest(reference)
        files = manifest.files()
        weights = [layer for name, layer in files.items() if name.endswith(".safetensors")]
        header = _header(_registry(reference), reference.name, weights[0]) if len(weights) == 1 else b""
        sizes = {name: layer.size for name, layer in files.items()}
        return Info(reference, str(manifest.digest), manifest, header, sizes)

    def search(self, where: Reference, words: Sequence[str]) -> list[Found]:
        """Artifacts in the index that a namespace publishes. Raises `NotFound` where it publishes none."""
        from adaptr.registry import local, search
        from adaptr.registry.store import Store

        store = Store.default()
        try:
            index = local.pull(search.place(where), store).digest
        except NotFound:
            raise NotFound(
                f"`{where.host}/{where.name}` publishes no index, and registries can't be searched",
                hint=f"`adaptr index build oci://{where.host}/{where.name}` makes one",
            ) from None
        return search.fitting(search.read(store.manifest(index), store), words)


def _registry(reference: Reference) -> Registry:
    from adaptr.registry.client.registry import connected

    return connected(reference.host)


def _manifest(reference: Reference) -> Manifest:
    raw, kind = _registry(reference).manifest(reference.name, reference.digest or reference.tag)
    return manifests.parse(raw, kind)


def _source(
    registry: Registry, repository: str, blob: Descriptor
) -> Callable[[int], AbstractContextManager[tuple[int, Iterator[bytes]]]]:
    return lambda start: registry.read(repository, blob.digest, start)


def _header(registry: Registry, repository: str, blob: Descriptor) -> bytes:
    """The JSON header of a safetensors file that stays where it is. Raises `HeaderTruncated` for what has none."""

    def start(count: int) -> bytes:
        found = registry.head_of(repository, blob, count)
        if len(found) == blob.size and Digest.of(found) != blob.digest:
            raise IntegrityError(
                f"{blob.digest} in `{repository}` is damaged there, or was changed", hint="push it again"
            )
        return found

    return glance.header(start, blob.size, f"{repository}@{blob.digest}")


def _require_free(registry: Registry, reference: Reference, digest: Digest, force: bool) -> None:
    """Versions do not move. Raises `ReferenceMoved` for one that is taken by something else."""
    from adaptr.registry.client.upload import scopes_of

    if force or not _VERSION.match(reference.tag):
        return
    there = registry.tagged(reference.name, reference.tag, scopes_of(reference.name))
    if there is not None and there[0] != digest:
        raise ReferenceMoved(
            f"`{reference}` is there already and is {there[0]}",
            hint="a version stays what it is: push under another one, or move it with `--force`",
        )


def _require_there(registry: Registry, reference: Reference, manifest: Manifest) -> None:
    """Raises `IntegrityError` if the registry, asked again, has something else than was pushed."""
    from adaptr.registry.client.upload import scopes_of

    name = reference.tag or manifest.digest
    there = registry.tagged(reference.name, name, scopes_of(reference.name))
    if there is None or there[0] not in {"", manifest.digest} or there[1] not in {-1, len(manifest.raw)}:
        raise IntegrityError(
            f"`{reference}` was pushed as {manifest.digest}, and the registry has "
            f"{(there[0] if there else 'nothing')} there: somebody else pushed at the same time, or it keeps "
            "something else than it is given",
            hint="pull it by its digest, or push again",
        )


class _Stopped(Exception):
    """Another blob failed, or somebody pressed a key."""


def _each(
    blobs: Iterable[Descriptor],
    work: Callable[[Descriptor, Callable[[int], None]], None],
    count: Callable[[int], None],
) -> None:
    """Do `work` for every blob, several at once; the first error stops all."""
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    once = sorted({blob.digest: blob for blob in blobs}.values(), key=lambda blob: -blob.size)
    stop = threading.Event()

    def counted(done: int) -> None:
        if stop.is_set() and done > 0:
            raise _Stopped
        count(done)

    with ThreadPoolExecutor(WORKERS, "adaptr-blob") as pool:
        try:
            jobs = [pool.submit(work, blob, counted) for blob in once]
            done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            failed = next((job for job in jobs if job in done and job.exception()), None)
            if failed is not None:
                failed.result()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
