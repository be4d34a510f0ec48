"""Real registries on this machine, a store and a home of one's own for each test, and small artifacts."""

from __future__ import annotations

import json
import os
import secrets
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptr.registry import terms
from adaptr.registry.client import http, retry
from adaptr.registry.client import registry as client
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.remotes import Remote, of
from adaptr.registry.store import Store
from registry.servers import certificates
from registry.servers.certificates import Pair
from registry.servers.faults import Faults, fault_server
from registry.servers.registry import DockerRegistry, docker_registry, htpasswd
from registry.servers.token import ACCOUNTS, ISSUER, SERVICE, TokenServer, token_server

SPEAKS = ("ADAPTR_AUTH_FILE", "ADAPTR_PLAIN_HTTP", "ADAPTR_UPLOAD_HOSTS", "XDG_CONFIG_HOME", "SSL_CERT_FILE")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home where nobody has logged in anywhere."""
    home = tmp_path / "home"
    home.mkdir()
    for name in SPEAKS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("ADAPTR_HOME", str(home / "adaptr"))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    client.connected.cache_clear()
    return home


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes by itself is asked for again at once."""
    monkeypatch.setattr(retry, "PAUSE", 0.001)


@pytest.fixture(autouse=True, scope="session")
def closed() -> Iterator[None]:
    """No connection is left to the garbage collector."""
    yield
    http.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """A second store, as on another machine."""
    return Store(tmp_path / "other")


@pytest.fixture
def oci() -> Remote:
    return of("oci")


@pytest.fixture
def repository() -> str:
    return f"acme/t{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return certificates.made(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A registry for everyone."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def faulty(plain: DockerRegistry) -> Iterator[Faults]:
    """The same, behind a proxy that fails as it is told."""
    with fault_server(plain.host) as found:
        yield found


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A registry for two accounts, by password."""
    root = tmp_path_factory.mktemp("htpasswd")
    with docker_registry(root, auth=htpasswd(root / "htp", ACCOUNTS)) as found:
        yield found


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> Iterator[DockerRegistry]:
    """The same over TLS, with a certificate that nobody knows."""
    root = tmp_path_factory.mktemp("tls")
    files = {"certificate": str(pair.certificate), "key": str(pair.key)}
    with docker_registry(root, auth=htpasswd(root / "htp", ACCOUNTS), tls=files) as found:
        yield found


@pytest.fixture(scope="session")
def tokens(pair: Pair) -> Iterator[TokenServer]:
    with token_server(pair) as found:
        yield found


@pytest.fixture(scope="session")
def bearer(tmp_path_factory: pytest.TempPathFactory, pair: Pair, tokens: TokenServer) -> Iterator[DockerRegistry]:
    """A registry that wants tokens of `tokens`."""
    asked = {"realm": tokens.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(pair.certificate)}
    with docker_registry(tmp_path_factory.mktemp("bearer"), auth={"token": asked}) as found:
        yield found


def safetensors(numbers: int, **metadata: str) -> bytes:
    """A safetensors file of one random tensor."""
    entry = {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}
    header = json.dumps({"__metadata__": metadata, "a": entry}).encode()
    return struct.pack("<Q", len(header)) + header + os.urandom(4 * numbers)


Made = Callable[..., Digest]


@pytest.fixture
def made() -> Made:
    return made_in


def made_in(store: Store, *sizes: int, **annotations: str) -> Digest:
    """An artifact in the store: a weights file of that many numbers for each size, and a card."""
    files = {f"w{number}.safetensors": safetensors(size) for number, size in enumerate(sizes or (1000,))}
    files["README.md"] = b"# made for a test\n"
    layers = [layer(store, name, data) for name, data in files.items()]
    return store.put(enveloped(store, layers, annotations))


def enveloped(store: Store, layers: list[Descriptor], annotations: Any) -> Manifest:
    config = store.add_bytes(b"{}")
    return Manifest.make(Descriptor(terms.MODEL_CONFIG, config, 2), layers, terms.MODEL_ARTIFACT, annotations)


def layer(store: Store, name: str, data: bytes) -> Descriptor:
    kind = terms.WEIGHTS_LAYER if name.endswith(".safetensors") else terms.DOC_LAYER
    return Descriptor(kind, store.add_bytes(data), len(data), {terms.TITLE: name, terms.FILEPATH: name})
