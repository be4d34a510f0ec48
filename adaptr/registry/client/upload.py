"""Blobs on their way out: there already, taken over from a neighbour, or sent whole in one request.

Sending in chunks is not done: registries lose, replay or refuse them; a retry starts from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from urllib.parse import urlencode

from adaptr.errors import AdaptrError, AuthError, IntegrityError
from adaptr.registry.client import places
from adaptr.registry.client.auth import Scopes, scope
from adaptr.registry.client.http import Answer, Body, exchange
from adaptr.registry.client.registry import Registry
from adaptr.registry.client.retry import retried
from adaptr.registry.manifest import Descriptor

Count = Callable[[int], None]
#: Bytes read and sent at a time.
CHUNK = 1 << 18


def scopes_of(repository: str) -> Scopes:
    return frozenset({scope(repository, "pull", "push")})


def upload(registry: Registry, repository: str, blob: Descriptor, path: Path, count: Count, source: str = "") -> int:
    """Bring a blob into a repository; returns the bytes that were sent. `source`: a repository that may have it.

    `count` hears of bytes done, whether they were sent or not.
    """
    if registry.has(repository, blob, scopes_of(repository)):
        count(blob.size)
        return 0
    if source and source != repository and _mounted(registry, repository, blob, source):
        count(blob.size)
        return 0
    retried(lambda: _send(registry, repository, blob, path, count))
    if not registry.has(repository, blob, scopes_of(repository)):
        raise IntegrityError(
            f"`{registry.host}` took {blob.digest} for `{repository}` and does not have it afterwards",
            hint="push again, or tell those who run it",
        )
    return blob.size


def _mounted(registry: Registry, repository: str, blob: Descriptor, source: str) -> bool:
    """Whether the registry takes a blob over from another repository. Where it says no, nothing is lost."""
    scopes = scopes_of(repository) | {scope(source, "pull")}
    query = urlencode({"mount": blob.digest, "from": source})
    try:
        with registry.ask("POST", f"/v2/{repository}/blobs/uploads/?{query}", scopes, _EMPTY) as answer:
            if answer.status == 202:
                _cancel(registry, answer.url, answer.header("location"), scopes)
            return answer.status == 201
    except AuthError:
        return False


_EMPTY = {"Content-Length": "0"}


def _send(registry: Registry, repository: str, blob: Descriptor, path: Path, count: Count) -> None:
    scopes = scopes_of(repository)
    with registry.ask("POST", f"/v2/{repository}/blobs/uploads/", scopes, _EMPTY) as answer:
        if answer.status != 202:
            raise registry.refused(answer, f"uploads to `{repository}`", scopes)
        target, known = places.uploading(registry.base, answer.url, answer.header("location"))
    url = f"{target}{'&' if '?' in target else '?'}{urlencode({'digest': blob.digest})}"
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
    sent = _Sent(path, count)
    try:
        ask = registry.ask if known else _stranger
        with ask("PUT", url, scopes, headers, sent.chunks) as answer:
            answer.require_lasting()
            if answer.status not in {201, 204}:
                raise registry.refused(answer, f"the upload of {blob.digest} to `{repository}`", scopes)
    except BaseException:
        sent.undo()
        _cancel(registry, target, target, scopes)
        raise


def _stranger(
    method: str, url: str, scopes: Scopes, headers: Mapping[str, str], body: Body
) -> AbstractContextManager[Answer]:
    """Like `Registry.ask`, of a server that does not get to know who we are."""
    return exchange(method, url, headers, body)


def _cancel(registry: Registry, url: str, location: str, scopes: Scopes) -> None:
    """Tell the registry that an upload won't go on; if it does not listen, it will find out."""
    with suppress(AdaptrError):
        target, known = places.uploading(registry.base, url, location)
        if known:
            with registry.ask("DELETE", target, scopes):
                pass


class _Sent:
    """A file as a body that can be sent again, and how much of it was."""

    def __init__(self, path: Path, count: Count) -> None:
        self._path, self._count, self._done = path, count, 0

    def chunks(self) -> Iterator[bytes]:
        self.undo()
        with open(self._path, "rb", buffering=0) as file:
            while data := file.read(CHUNK):
                yield data
                self._done += len(data)
                self._count(len(data))

    def undo(self) -> None:
        self._count(-self._done)
        self._done = 0
