"""The endpoints of one registry (OCI distribution-spec 1.1), as far as adaptr uses them."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from adaptr.errors import DigestMismatch, RegistryError, TransferError, shown
from adaptr.registry import manifest as manifests
from adaptr.registry import terms
from adaptr.registry.client import address, refusal
from adaptr.registry.client.auth import Auth, Scopes, scope
from adaptr.registry.client.credentials import Credential
from adaptr.registry.client.http import Answer, Body, exchange
from adaptr.registry.client.retry import retried
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor

#: Said in full: some registries answer 404 to anything less.
ACCEPT = ", ".join((terms.OCI_MANIFEST, terms.OCI_INDEX, terms.DOCKER_MANIFEST))
_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/(?:[0-9]{1,19}|\*)\Z")


class Registry:
    """A registry, called `host` by people; answers at the origin `base`."""

    def __init__(self, host: str, credential: Credential | None = None) -> None:
        self.host = host
        self.base = _base(address.ALIASES.get(host, host))
        self.auth = Auth(address.origin(self.base), host, credential)
        self._lists = True  # until it turns out to have no referrers API

    # ------------------------------------------------------------ asking

    @contextmanager
    def ask(
        self,
        method: str,
        path: str,
        scopes: Scopes,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> Iterator[Answer]:
        """Send a request as who we are; a 401 is met once. `path`: from the base, or a whole URL of the same origin.

        Raises `TransferError` for answers that may pass.
        """
        url = path if "://" in path else f"{self.base}{path}"
        for last in (False, False, True):
            said = self.auth.header(scopes)
            with exchange(method, url, {**(headers or {}), **said}, body) as answer:
                if answer.status == 401 and not last and self.auth.meet(answer, scopes, said):
                    continue
                answer.require_lasting()
                yield answer
                return

    def ping(self) -> int:
        """The status of the API's root, as who we are."""

        def once() -> int:
            with self.ask("GET", "/v2/", frozenset()) as answer:
                return answer.status

        return retried(once)

    def refused(self, answer: Answer, what: str, scopes: Scopes) -> RegistryError:
        return refusal.of(answer, self.auth, what, scopes)

    # ------------------------------------------------------------ manifests

    def manifest(self, repository: str, name: str) -> tuple[bytes, str]:
        """The bytes of a manifest or index by tag or digest, hashed, and the type that came with it.

        What a registry says is the digest of a tag proves nothing, but if it is not, something broke on the way.
        """
        for _ in range(2):
            raw, kind, said = retried(lambda: self._manifest(repository, name))
            wanted = name if name.startswith("sha256:") else said
            if not wanted.startswith("sha256:") or Digest.of(raw) == wanted:
                return raw, kind
        raise DigestMismatch(
            f"`{self.host}` gives a manifest with the digest {Digest.of(raw)} for {_called(repository, name)}",
            want=f"{wanted}",
        )

    def _manifest(self, repository: str, name: str) -> tuple[bytes, str, str]:
        scopes = frozenset({scope(repository, "pull")})
        with self.ask("GET", f"/v2/{repository}/manifests/{name}", scopes, {"Accept": ACCEPT}) as answer:
            if answer.status != 200:
                raise self.refused(answer, _called(repository, name), scopes)
            return answer.read(manifests.MAX), answer.header("content-type"), answer.header("docker-content-digest")

    def tagged(self, repository: str, name: str, scopes: Scopes) -> tuple[str, int] | None:
        """The digest and size that the registry says a tag or digest has; None where it has none."""

        def once() -> tuple[str, int] | None:
            path = f"/v2/{repository}/manifests/{name}"
            with self.ask("HEAD", path, scopes, {"Accept": ACCEPT}) as answer:
                if answer.status == 404:
                    return None
                if answer.status != 200:
                    raise self.refused(answer, _called(repository, name), scopes)
                return answer.header("docker-content-digest"), answer.length

        return retried(once)

    def put_manifest(self, repository: str, name: str, raw: bytes, media_type: str) -> Mapping[str, str]:
        """Store a manifest under a tag or its digest; returns the answer's headers."""
        scopes = frozenset({scope(repository, "pull", "push")})
        headers = {"Content-Type": media_type, "Content-Length": str(len(raw))}

        def once() -> Mapping[str, str]:
            path = f"/v2/{repository}/manifests/{name}"
            with self.ask("PUT", path, scopes, headers, lambda: [raw]) as answer:
                if answer.status not in {200, 201, 202}:
                    raise self.refused(answer, _called(repository, name), scopes)
                return dict(answer.response.headers)

        return retried(once)

    def referrers(self, repository: str, digest: Digest) -> tuple[Descriptor, ...] | None:
        """What the registry lists as attached to a manifest; None where it keeps no such lists."""
        scopes = frozenset({scope(repository, "pull")})

        def once() -> tuple[Descriptor, ...] | None:
            if not self._lists:
                return None
            with self.ask("GET", f"/v2/{repository}/referrers/{digest}", scopes, {"Accept": terms.OCI_INDEX}) as answer:
                if answer.status == 200 and answer.header("content-type").startswith(terms.OCI_INDEX):
                    return manifests.parse_list(answer.read(manifests.MAX))
                if answer.status in {401, 403}:
                    raise self.refused(answer, f"`{repository}`", scopes)
                self._lists = False
                return None

        return retried(once)

    # ------------------------------------------------------------ blobs

    def has(self, repository: str, blob: Descriptor, scopes: Scopes) -> bool:
        """Whether a repository has a blob, of the right size."""

        def once() -> bool:
            with self.ask("HEAD", f"/v2/{repository}/blobs/{blob.digest}", scopes) as answer:
                if answer.status in {401, 403}:
                    raise self.refused(answer, f"`{repository}`", scopes)
                return answer.status == 200 and answer.header("content-length") in {"", str(blob.size)}

        return retried(once)

    @contextmanager
    def read(self, repository: str, digest: Digest, start: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """A blob's bytes from `start` on, and where they really begin. Tried once: who reads knows how far it came."""
        scopes = frozenset({scope(repository, "pull")})
        for at in (start, 0):
            headers = {"Range": f"bytes={at}-"} if at else {}
            try:
                with self.ask("GET", f"/v2/{repository}/blobs/{digest}", scopes, headers) as answer:
                    if at and (answer.status == 416 or (answer.status == 206 and _start(answer) != at)):
                        continue
                    if answer.status not in {200, 206}:
                        raise self.refused(answer, f"{digest} in `{repository}`", scopes)
                    yield at if answer.status == 206 else 0, answer.chunks()
                    return
            except TransferError as error:
                time.sleep(error.after)
                raise

    def head_of(self, repository: str, blob: Descriptor, count: int) -> bytes:
        """The first `count` bytes of a blob, by a range where the registry can, else by reading no further."""
        scopes = frozenset({scope(repository, "pull")})

        def once() -> bytes:
            found = bytearray()
            headers = {"Range": f"bytes=0-{count - 1}"}
            with self.ask("GET", f"/v2/{repository}/blobs/{blob.digest}", scopes, headers) as answer:
                if answer.status not in {200, 206}:
                    raise self.refused(answer, f"{blob.digest} in `{repository}`", scopes)
                for chunk in answer.chunks():
                    found += chunk
                    if len(found) >= count:
                        break
            return bytes(found[:count])

        return retried(once)


@functools.lru_cache(maxsize=64)
def connected(host: str) -> Registry:
    """The registry of that name, with what this process has learnt of it."""
    return Registry(host)


def _base(host: str) -> str:
    """The URL of a registry: https, but for this machine's own and for those that somebody said have no TLS."""
    if address.plain(host):
        return f"http://{host}"
    if not address.loopback(address.origin(f"https://{host}").host):
        return f"https://{host}"
    try:
        with exchange("GET", f"http://{host}/v2/") as answer:
            return f"{'https' if answer.status == 400 else 'http'}://{host}"  # 400: TLS is what it wants
    except TransferError as error:
        import httpx

        if isinstance(error.__cause__, httpx.ConnectError):
            raise
        return f"https://{host}"


def _start(answer: Answer) -> int:
    found = _RANGE.match(answer.header("content-range"))
    return int(found[1]) if found else -1


def _called(repository: str, name: str) -> str:
    return f"`{shown(repository)}{'@' if name.startswith('sha256:') else ':'}{shown(name)}`"
