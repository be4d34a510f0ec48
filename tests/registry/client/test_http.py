"""Where requests go, what comes back, and what must not be taken."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from adaptr import errors as e
from adaptr.registry.client import address, http, lists, places, redaction, retry
from adaptr.registry.client.registry import Registry
from registry.servers.faults import Faults
from registry.servers.processes import Quiet, Server, serving


@dataclass
class Elsewhere:
    """A server that answers `body`, and writes down which headers it got."""

    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def elsewhere(location: str = "") -> Iterator[Elsewhere]:
    state = Elsewhere()

    class Handler(Quiet):
        def do_GET(self) -> None:
            state.headers.append(dict(self.headers))
            if location:
                self.answer(307, Location=location)
            else:
                self.answer(200, b"body", Set_Cookie="a=b")

        do_PUT = do_GET

    with serving(Server(("127.0.0.1", 0), Handler)) as port:
        state.url = f"http://127.0.0.1:{port}/x"
        yield state


def get(url: str, method: str = "GET") -> bytes:
    with http.exchange(method, url, {"Authorization": "Bearer CANARY", "Cookie": "CANARY"}) as answer:
        return answer.read(1000)


def test_a_redirect_elsewhere_leaves_secrets_behind() -> None:
    with elsewhere() as target, elsewhere(target.url) as first:
        assert get(first.url) == b"body"
    assert first.headers[0]["Authorization"] == "Bearer CANARY"
    assert "CANARY" not in str(target.headers)


def test_a_redirect_at_home_keeps_them(faulty: Faults) -> None:
    faulty.add("GET /a", f"location:http://{faulty.host}/v2/", 1)
    get(f"http://{faulty.host}/a")
    assert [headers["Authorization"] for _, headers in faulty.seen] == ["Bearer CANARY"] * 2


def test_what_writes_is_not_redirected() -> None:
    with elsewhere() as target, elsewhere(target.url) as first:
        with http.exchange("PUT", first.url, {"Content-Length": "0"}) as answer:
            assert answer.status == 307
        assert target.headers == []


def test_redirects_end(faulty: Faults) -> None:
    faulty.add("GET", f"location:http://{faulty.host}/again")
    with pytest.raises(e.RegistryError, match="more than 5"):
        get(f"http://{faulty.host}/")
    assert len(faulty.seen) == 6


def test_cookies_are_not_kept() -> None:
    with elsewhere() as server:
        with http.exchange("GET", server.url):
            pass
        with http.exchange("GET", server.url):
            pass
    assert not any("Cookie" in headers for headers in server.headers)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
    ],
)
def test_link_local_is_refused(url: str, faulty: Faults) -> None:
    with pytest.raises(e.RegistryError, match="link-local"):
        get(url)
    faulty.add("GET", f"location:{url}")
    with pytest.raises(e.RegistryError, match="link-local"):
        get(f"http://{faulty.host}/")


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://registry.example/v2/", "http://registry.example/x"),
        ("https://1.1.1.1/v2/", "https://127.0.0.1/x"),
        ("https://8.8.8.8/v2/", "https://10.0.0.1/x"),
        ("https://8.8.8.8/v2/", "https://localhost/x"),
        ("https://registry.example/", "file:///etc/passwd"),
        ("https://registry.example/", "https://user:secret@other.example/"),
    ],
)
def test_redirects_that_are_refused(url: str, location: str) -> None:
    with pytest.raises(e.RegistryError):
        places.redirected(url, location)


def test_uploads_stay_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    base = "https://registry.example"
    assert places.uploading(base, f"{base}/v2/", "/v2/x?a=1") == (f"{base}/v2/x?a=1", True)
    assert places.uploading(base, f"{base}/v2/", f"{base}:443/v2/x") == (f"{base}:443/v2/x", True)
    for away in ("https://other.example/x", "http://registry.example/x", "https://registry.example:444/x"):
        with pytest.raises(e.RegistryError, match="another server"):
            places.uploading(base, base, away)
    monkeypatch.setenv("ADAPTR_UPLOAD_HOSTS", "a.example, other.example")
    assert places.uploading(base, base, "https://other.example/x") == ("https://other.example/x", False)
    with pytest.raises(e.RegistryError):
        places.uploading(base, base, "http://other.example/x")


def test_a_bomb_is_not_unpacked(faulty: Faults) -> None:
    """300 MB of zeros in 300 kB, though nothing packed was asked for."""
    faulty.add("GET", f"gzip:{300 << 20}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(e.RegistryError, match="gzip"), http.exchange("GET", f"http://{faulty.host}/v2/") as answer:
        answer.json()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_answers_have_a_limit(faulty: Faults) -> None:
    faulty.add("GET", f"oversize:{2 << 20}")
    with pytest.raises(e.RegistryError, match="1048576"), http.exchange("GET", f"http://{faulty.host}/v2/") as answer:
        answer.json()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("3", 3.0),
        ("100000", 60.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-1", 0.0),
        ("0", 0.0),
        ("\xb2", 0.0),
        ("9" * 5000, 60.0),
        ("1e400", 0.0),
        ("nan", 0.0),
        ("Mon, 99 Foo 99999 99:99:99 GMT", 0.0),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0),
    ],
)
def test_how_long_a_server_is_waited_for(said: str, seconds: float) -> None:
    assert retry.asked(said) == seconds


def test_a_date_to_wait_for() -> None:
    assert 0 < retry.asked("Fri, 31 Dec 2123 23:59:59 GMT") <= retry.PATIENCE
    assert retry.asked("Fri, 31 Dec 1999 23:59:59 GMT") == 0


def test_tries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE", 0.0)
    tried = []

    def work() -> None:
        tried.append(1)
        raise e.TransferError("busy")

    with pytest.raises(e.TransferError):
        retry.retried(work)
    assert len(tried) == retry.TRIES


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("GET https://u:p@h/x?X-Amz-Signature=S 200", "GET https://...@h/x?... 200"),
        ("(b'Location', b'https://h/x?a=b')", "(b'Location', b'https://h/x?...')"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ..."),
        ("nothing here", "nothing here"),
    ],
)
def test_what_logs_show(text: str, want: str) -> None:
    assert redaction.redacted(text) == want


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("a.localhost", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("x", False),
    ],
)
def test_this_machine(host: str, is_loopback: bool) -> None:
    assert address.loopback(host) == is_loopback


@pytest.mark.parametrize("said", ["YWxpY2U6czNjcmV0eQ==", "s3crety", "token-of-old", "Bearer token-of-old"])
def test_what_was_said_to_a_server_is_not_said_again(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_told", set())
    redaction.tell("Basic YWxpY2U6czNjcmV0eQ==")
    redaction.tell("Bearer token-of-old")
    shown = redaction.without_secrets(f"no entry for <{said}> here")
    assert "no entry for" in shown
    assert "s3crety" not in shown
    assert "YWxpY2U" not in shown
    assert "token-of" not in shown


@pytest.mark.parametrize("said", [5, "abc", [[1], {}], {"a": 1}, ["a", 1], True])
def test_lists_of_names_that_are_none(said: object) -> None:
    class Handler(Quiet):
        def do_GET(self) -> None:
            self.answer(200, json.dumps({"tags": said, "repositories": said}).encode())

    with serving(Server(("127.0.0.1", 0), Handler)) as port:
        registry = Registry(f"127.0.0.1:{port}")
        with pytest.raises(e.RegistryError, match="no list `tags`"):
            lists.tags(registry, "a/b")
        with pytest.raises(e.RegistryError, match="no list `repositories`"):
            lists.repositories(registry, "a")


@pytest.mark.parametrize("link", ["<" * 60_000, "<a>; " * 12_000, "<" + "a" * 60_000, "<a>" + " " * 60_000])
def test_a_link_to_the_next_page_is_found_in_no_time(link: str) -> None:
    class Handler(Quiet):
        def do_GET(self) -> None:
            self.answer(200, b'{"tags": ["x"]}', Link=link)

    with serving(Server(("127.0.0.1", 0), Handler)) as port:
        started = time.process_time()
        assert lists.tags(Registry(f"127.0.0.1:{port}"), "a/b") == ["x"]
        assert time.process_time() - started < 1
