"""The registry under test, what it was found to do, and the report at the end."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
FOUND: dict[str, str] = {}


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Registry:
    """A registry, spoken to as plainly as can be."""

    http: httpx.Client
    repository: str
    account: tuple[str, str] | None
    tokens: dict[str, str] = field(default_factory=dict)

    def __call__(self, method: str, path: str, repository: str = "", **more: object) -> httpx.Response:
        """A request below the repository; a 401 is answered once."""
        url = path if "://" in path or path.startswith("/") else f"/v2/{repository or self.repository}/{path}"
        headers = {"Accept-Encoding": "identity", **more.pop("headers", {})}  # type: ignore[dict-item]
        auth = self.tokens.get(repository or self.repository)
        answer = self.http.request(method, url, headers={**headers, **_said(auth)}, **more)  # type: ignore[arg-type]
        if answer.status_code != 401:
            return answer
        auth = self._answered(answer.headers.get("www-authenticate", ""))
        self.tokens[repository or self.repository] = auth
        return self.http.request(method, url, headers={**headers, **_said(auth)}, **more)  # type: ignore[arg-type]

    def _answered(self, challenge: str) -> str:
        said = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        if challenge.lower().startswith("basic") and self.account:
            return httpx.BasicAuth(*self.account)._auth_header
        asked = {key: said[key] for key in ("service", "scope") if key in said}
        answer = httpx.get(said["realm"], params=asked, auth=self.account)
        answer.raise_for_status()
        found = answer.json()
        return f"Bearer {found.get('token') or found['access_token']}"

    def push_blob(self, data: bytes, repository: str = "") -> httpx.Response:
        started = self("POST", "blobs/uploads/", repository)
        assert started.status_code == 202, started.text
        where = httpx.URL(self.http.base_url).join(started.headers["location"])
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(data))}
        url = str(where.copy_merge_params({"digest": digest(data)}))
        return self("PUT", url, repository, content=data, headers=headers)

    def push_manifest(self, raw: bytes, name: str = "", kind: str = MANIFEST, repository: str = "") -> httpx.Response:
        return self("PUT", f"manifests/{name or digest(raw)}", repository, content=raw, headers={"Content-Type": kind})


def _said(auth: str | None) -> dict[str, str]:
    return {"Authorization": auth} if auth else {}


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    host = os.environ.get("ADAPTR_REGISTRY")
    if not host:
        pytest.skip("say which registry: ADAPTR_REGISTRY=host:port")
    name = os.environ.get("ADAPTR_REGISTRY_REPOSITORY") or f"adaptr-conformance/{secrets.token_hex(6)}"
    user, _, password = os.environ.get("ADAPTR_REGISTRY_ACCOUNT", "").partition(":")
    plain = re.match(r"(127\.|localhost\b|\[::1\])", host)
    with httpx.Client(base_url=f"{'http' if plain else 'https'}://{host}", timeout=60, follow_redirects=True) as http:
        yield Registry(http, name, (user, password) if user else None)


@pytest.fixture
def can() -> object:
    """can(what, answer): put a capability into the report; returns whether it is there."""

    def note(what: str, found: bool, why: str = "") -> bool:
        FOUND[what] = ("yes" if found else "no") + (f" ({why})" if why else "")
        return found

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FOUND:
        terminalreporter.section("capabilities")
        width = max(map(len, FOUND))
        for what, found in FOUND.items():
            terminalreporter.line(f"{what.ljust(width)}  {found}")
