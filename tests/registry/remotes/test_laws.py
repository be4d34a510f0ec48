"""Every law of `adaptr.testing.RemoteLaws` x every built-in remote, against real servers on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from adaptr.registry import remotes
from adaptr.registry.client import http
from adaptr.registry.digest import Digest
from adaptr.registry.reference import Reference, parse
from adaptr.registry.remotes import of
from adaptr.registry.store import Store
from adaptr.testing import RemoteLaws
from adaptr.testing.transfers import HOW, How, spoil
from registry.servers.certificates import Pair
from registry.servers.registry import DockerRegistry
from registry.servers.repositories import TOKEN, Hub
from registry.servers.static import Static, static_server


def short(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:12]


class TestFile(RemoteLaws):
    remote = "file"

    def place(self, folder: Path, tag: str) -> str:
        return f"file://{folder}/layout#{tag}"

    def shelves(self, folder: Path) -> str:
        return f"file://{folder}/layout"

    def damage(self, where: Reference, blob: Digest, how: How) -> bool:
        return spoil(Path(where.name) / "blobs" / "sha256" / blob.hex, how)


class TestHttp(RemoteLaws):
    """A layout on a web server, which whoever keeps the server has put there."""

    remote = "http"

    @pytest.fixture(autouse=True)
    def _served(self, web: Static) -> None:
        self.web = web

    def place(self, folder: Path, tag: str) -> str:
        return f"{self.web.origin}/{short(folder)}/#{tag}"

    def publish(self, store: Store, digest: Digest, folder: Path, tag: str = "one") -> Reference:
        of("file").push(store, digest, parse(f"file://{self.web.root}/{short(folder)}#{tag}"))
        return parse(self.place(folder, tag))

    def shelves(self, folder: Path) -> str:
        return f"{self.web.origin}/{short(folder)}/"

    def damage(self, where: Reference, blob: Digest, how: How) -> bool:
        return spoil(self.web.root / where.name.strip("/") / "blobs" / "sha256" / blob.hex, how)


class TestHttps(TestHttp):
    remote = "https"

    @pytest.fixture(autouse=True)
    def _served(self, tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # type: ignore[override]
        monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))
        (tmp_path / "web").mkdir()
        http.close()  # who vouches is read when the first connection is made
        with static_server(tmp_path / "web", pair) as self.web:
            yield
        http.close()


class TestOci(RemoteLaws):
    remote = "oci"

    @pytest.fixture(autouse=True)
    def _served(self, plain: DockerRegistry, locked: DockerRegistry) -> None:
        self.registry, self.locked = plain, locked
        self.host = plain.host

    def place(self, folder: Path, tag: str) -> str:
        return f"oci://{self.host}/acme/{short(folder)}:{tag}"

    def damage(self, where: Reference, blob: Digest, how: How) -> bool:
        return spoil(self.registry.blob(blob), how)

    def secrets(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterable[str]:
        """A password that a registry does not take."""
        self.host, secret = self.locked.host, "c4nary-of-alice"
        told = base64.b64encode(f"alice:{secret}".encode()).decode()
        (folder / "auth.json").write_text(json.dumps({"auths": {self.host: {"auth": told}}}))
        (folder / "auth.json").chmod(0o600)
        monkeypatch.setenv("ADAPTR_AUTH_FILE", str(folder / "auth.json"))
        return secret, told


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the library's own call
class TestHuggingFace(RemoteLaws):
    remote = "hf"

    @pytest.fixture(autouse=True)
    def _served(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hub = hub
        monkeypatch.setenv("HF_TOKEN", TOKEN)

    def place(self, folder: Path, tag: str) -> str:
        return f"hf://acme/{short(folder)}@{tag}"

    def damage(self, where: Reference, blob: Digest, how: How) -> bool:
        self.hub.fault = "corrupt" if how == "changed" else ""
        return how == "changed"

    def secrets(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterable[str]:
        monkeypatch.setenv("HF_TOKEN", "hf_c4nary_that_nobody_knows")
        return [os.environ["HF_TOKEN"]]


def test_every_remote_keeps_the_laws() -> None:
    kept = {
        one.remote
        for one in globals().values()
        if isinstance(one, type) and issubclass(one, RemoteLaws) and one is not RemoteLaws
    }
    assert kept == set(remotes.SORT.files())
    assert get_args(How) == HOW
