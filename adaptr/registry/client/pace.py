"""Connections on which an answer that has begun keeps coming, headers and body, or is given up.

The HTTP library limits the time of each read, which a byte at a time never exceeds.
"""

from __future__ import annotations

import threading
import time
from ssl import SSLContext
from typing import TYPE_CHECKING, Any

import httpcore

if TYPE_CHECKING:
    import httpx

#: Bytes a second that a server must send on average, over so many seconds of waiting for it.
SLOWEST, PATIENCE = 1024, 15.0


#: Bytes that are read for an answer's headers: with those of interim answers (RFC 9110, section 15.2) before them, and
#: with what of the body comes in one read.
HEADERS = 4 << 20


class TooSlow(Exception):
    """A server that hardly sends, or never comes to its answer: trying again would not help."""


class _Reading(threading.local):
    """How many bytes of headers the request of this thread may still get, None where it reads none."""

    left: int | None = None


_reading = _Reading()


def headers_counted(event: str, _: object) -> None:
    """Told by the HTTP library what it does: it passes over interim answers for as long as they come."""
    if event.endswith("receive_response_headers.started"):
        _reading.left = HEADERS
    elif event.endswith(("receive_response_headers.complete", "receive_response_headers.failed")):
        _reading.left = None


class Stream(httpcore.NetworkStream):
    """A connection on which reads are counted from the first bytes of an answer on; how long it thinks is not."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._waited, self._got = 0.0, 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes. Raises `TooSlow` when hardly any come."""
        started = time.monotonic()
        found = self._inner.read(max_bytes, timeout)
        self._waited += time.monotonic() - started if self._got else 0.0
        self._got += len(found)
        _count(len(found))
        if self._waited > PATIENCE:
            if self._got < SLOWEST * self._waited:
                pace = f"{self._got / self._waited:.0f} bytes a second"
                raise TooSlow(f"sends {pace}; less than {SLOWEST} is not waited for")
            self._waited, self._got = 0.0, len(found)
        return found

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._waited, self._got = 0.0, 0  # what comes now is the answer to this
        self._inner.write(buffer, timeout)

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Stream:
        return Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


def _count(size: int) -> None:
    if _reading.left is not None:
        _reading.left -= size
        if _reading.left < 0:
            raise TooSlow(f"sends more than {HEADERS} bytes before its answer")


class Backend(httpcore.SyncBackend):
    """Makes such connections."""

    def connect_tcp(self, *where: Any, **how: Any) -> Stream:
        return Stream(super().connect_tcp(*where, **how))


def keep(client: httpx.Client) -> None:
    """Let all connections of a client be such, also through proxies: httpx itself has no way to say so."""
    import httpx

    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            transport._pool._network_backend = Backend()
