"""Servers that send a little now and then, over a real connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from adaptr import errors as e
from adaptr.registry.client import http, pace

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\nX: "
BODY = b"a\r\n\r\n" + bytes(2000)


@contextmanager
def answering(at_once: bytes, rest: bytes, piece: int, think: float = 0.0) -> Iterator[str]:
    """A server that thinks for a while, answers `at_once` and then the rest, `piece` bytes every 10 ms."""

    def serve(listening: socket.socket) -> None:
        with suppress(OSError), listening.accept()[0] as client:
            client.recv(1 << 16)
            time.sleep(think)
            client.sendall(at_once)
            for at in range(0, len(rest), piece):
                time.sleep(0.01)
                client.sendall(rest[at : at + piece])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        http.close()  # the server writes to nobody now, and ends
    thread.join()


def read(url: str) -> int:
    with http.exchange("GET", url) as answer:
        return len(answer.read(1 << 20))


@pytest.mark.parametrize(
    ("at_once", "rest"), [(b"", HEAD + BODY), (HEAD, BODY), (HEAD + BODY[:5], BODY[5:])], ids=["all", "header", "body"]
)
def test_a_server_that_hardly_sends_is_not_waited_for(
    at_once: bytes, rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "PATIENCE", 0.1)
    with answering(at_once, rest, 1) as url, pytest.raises(e.RegistryError, match="bytes a second") as found:
        read(url)
    assert not isinstance(found.value, e.TransferError)  # which would be tried again
    assert url.strip("/") in str(found.value)


def test_a_slow_one_that_sends_enough_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PATIENCE", 0.02)
    with answering(b"", HEAD + BODY, 200) as url:
        assert read(url) == 2000


def test_one_that_thinks_before_it_answers_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PATIENCE", 0.1)
    with answering(HEAD + BODY, b"", 1, think=0.3) as url:
        assert read(url) == 2000


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxies_too(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PATIENCE", 0.1)
    http.close()
    with answering(b"", HEAD + BODY, 1) as url:
        monkeypatch.setenv(f"{scheme}_proxy", url)
        with pytest.raises(e.RegistryError, match="bytes a second"):
            read(f"{scheme}://registry.invalid/")
    http.close()


INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"


@pytest.mark.parametrize("interim", [INTERIM, b"HTTP/1.1 100 Continue\r\nX: " + b"y" * 5000 + b"\r\n\r\n"])
def test_interim_answers_end(interim: bytes) -> None:
    """The HTTP library passes over them for as long as they come, however fast."""
    endless = interim * (2 * pace.HEADERS // len(interim))
    with answering(b"", endless, 1 << 20) as url, pytest.raises(e.RegistryError, match="before its answer") as found:
        read(url)
    assert not isinstance(found.value, e.TransferError)


def test_a_few_of_them_are_passed_over() -> None:
    with answering(3 * INTERIM + HEAD + BODY, b"", 1) as url:
        assert read(url) == 2000


def test_a_long_body_is_not_counted_as_headers() -> None:
    size = pace.HEADERS + (1 << 20)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    with answering(head + bytes(size), b"", 1) as url, http.exchange("GET", url) as answer:
        assert len(answer.read(size)) == size
