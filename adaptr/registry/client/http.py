"""One HTTP exchange, done with care: bytes as they were sent, nothing decoded, nothing followed that should not be."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.errors import RegistryError, TransferError, shown
from adaptr.registry.client import address, places, redaction, retry
from adaptr.untrusted import json_object

if TYPE_CHECKING:
    import httpx

#: A body can be asked for again, when a request has to be sent twice.
Body = Callable[[], Iterable[bytes]]

HOPS = 5
#: The longest JSON answer, in bytes.
ANSWER = 1 << 20
#: Seconds to connect, and to wait for the next bytes, in either direction.
CONNECT, STALL = 10.0, 30.0
#: Bytes read from a connection at a time; the library's 64 KiB cost more for each than they bring.
READ = 1 << 20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Answer:
    """What a server said: the status and headers are there, the body is still to be read."""

    response: httpx.Response

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def url(self) -> str:
        return str(self.response.url)

    @property
    def origin(self) -> address.Origin:
        return address.origin(self.url)

    @property
    def length(self) -> int:
        """How many bytes the body has, as the server says; -1 where it says none, or nothing that is a number."""
        said = self.header("content-length")
        return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else -1

    @property
    def reason(self) -> str:
        """What the server says beside the status, without what was said to it."""
        return redaction.without_secrets(self.response.reason_phrase)

    def header(self, name: str) -> str:
        return str(self.response.headers.get(name, ""))

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives. Raises `TransferError` when it stops too early."""
        encoding = self.header("content-encoding") or "identity"
        if encoding != "identity":
            raise RegistryError(
                f"`{self.origin}` sends `{shown(encoding)}`, though it was asked not to pack anything",
                hint="tell those who run it, or a proxy in between",
            )
        with explained(self.url):
            yield from self.response.iter_raw()

    def read(self, limit: int) -> bytes:
        """The whole body. Raises `RegistryError` when it is longer than `limit` bytes."""
        found = bytearray()
        for chunk in self.chunks():
            found += chunk
            if len(found) > limit:
                raise RegistryError(
                    f"`{self.origin}`",
                    verb="answers",
                    got=f"with more than {limit} bytes",
                    want="fewer, as no such answer may be that long",
                )
        return bytes(found)

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises `RegistryError`."""
        return json_object(self.read(ANSWER), f"the answer of `{self.origin}`", RegistryError)

    def require_lasting(self) -> None:
        """Raises `TransferError` for an answer that may be another one next time."""
        if self.status in retry.PASSING:
            raise TransferError(
                f"`{self.origin}` answers {self.status} {shown(self.reason)}",
                after=retry.asked(self.header("retry-after")),
                hint="try again later",
            )


@contextmanager
def exchange(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: Body | None = None
) -> Iterator[Answer]:
    """Send a request and give the answer; redirects are followed for what only reads.

    A body needs its Content-Length in `headers`. Raises `TransferError`, and `RegistryError` for places that are
    refused.
    """
    headers = dict(headers or {})
    for _ in range(HOPS + 1):
        response = _sent(method, url, headers, body)
        try:
            location = response.headers.get("location", "") if response.status_code in _REDIRECTS else ""
            if not location or method not in {"GET", "HEAD"}:
                yield Answer(response)
                return
        finally:
            response.close()
        target = places.redirected(url, location)
        headers, url = places.carried(headers, url, target), target
    raise RegistryError(
        f"`{address.origin(url)}` is the end of more than {HOPS} redirects: not followed",
        hint="ask the place itself that they lead to",
    )


def _sent(method: str, url: str, headers: Mapping[str, str], body: Body | None) -> httpx.Response:
    _require_allowed(address.origin(url).host)
    redaction.tell(headers.get("Authorization", ""))
    from adaptr.registry.client import pace

    with explained(url):
        client, told = _client(), {"trace": pace.headers_counted}
        content = body() if body else None
        request = client.build_request(method, url, headers=dict(headers), content=content, extensions=told)
        return client.send(request, stream=True)


@functools.lru_cache(maxsize=256)
def _require_allowed(host: str) -> None:
    address.refuse_link_local(host)


@functools.cache
def _client() -> httpx.Client:
    """Connections of this process; proxies and `SSL_CERT_FILE` come from the environment. Cookies are not kept."""
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    import httpcore
    import httpx

    from adaptr.registry.client import pace
    from adaptr.version import __version__

    redaction.install()
    httpcore.HTTP11Connection.READ_NUM_BYTES = READ
    client = httpx.Client(
        headers={"Accept-Encoding": "identity", "User-Agent": f"adaptr/{__version__}"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        timeout=httpx.Timeout(STALL, connect=CONNECT, pool=None),
        follow_redirects=False,
    )
    pace.keep(client)
    return client


def close() -> None:
    """Close the connections that are kept for the next request."""
    if _client.cache_info().currsize:
        _client().close()
        _client.cache_clear()


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Errors of the HTTP library as ours."""
    import httpx

    from adaptr.registry.client import pace

    try:
        yield
    except pace.TooSlow as error:
        raise RegistryError(f"`{address.origin(url)}` {error}", hint="try again later") from None
    except httpx.InvalidURL:
        raise RegistryError(f"`{shown(url.partition('?')[0])}` is no URL", want="`https://host/path`") from None
    except httpx.HTTPError as error:
        where, text = address.origin(url), redaction.redacted(str(error)) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in text:
            raise RegistryError(
                f"`{where}` shows a certificate that nobody here vouches for ({shown(text, 200)})",
                hint="if it is your own authority's, set `SSL_CERT_FILE` to the file with its certificate",
            ) from None
        raise TransferError(f"`{where}`: {shown(text, 200)}", hint="look at the network, and try again") from error
