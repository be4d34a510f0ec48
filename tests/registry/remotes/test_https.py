"""`https://` and, on this machine, `http://`: files with a digest, and layouts on a static server."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from adaptr import api
from adaptr.artifacts import handling
from adaptr.errors import BadManifest, DigestMismatch, InputError, NotFound, PolicyError, RegistryError, TransferError
from adaptr.registry import local, pack
from adaptr.registry.reference import parse
from adaptr.registry.remotes import of
from adaptr.registry.store import Store
from registry.published import WEIGHTS
from registry.servers.static import Static


@pytest.fixture
def published(own: Path, web: Static) -> str:
    """An adaptr file on the server, with its digest."""
    shutil.copyfile(own, web.root / "style.safetensors")
    return f"{web.origin}/style.safetensors#sha256={hashlib.sha256(own.read_bytes()).hexdigest()}"


def test_a_file_with_its_digest(published: str, web: Static, store: Store) -> None:
    pulled = local.pull(parse(published), store)
    assert set(store.manifest(pulled.digest).files()) == {pack.NAME}
    assert api.load(published).method == "lora"
    web.log.clear()
    assert local.pull(parse(published), store).cached
    assert web.log == []


def test_it_is_the_same_artifact_as_the_file_pushed_elsewhere(published: str, own: Path, store: Store) -> None:
    assert local.pull(parse(published), store).digest == pack.stored(own, store).digest


def test_a_file_without_a_digest_is_refused(
    published: str, web: Static, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = published.partition("#")[0]
    with pytest.raises(PolicyError, match="sha256"):
        local.pull(parse(place), store)
    assert web.log == []
    monkeypatch.setenv("ADAPTR_ALLOW_UNPINNED", "1")
    assert str(local.pull(parse(place), store).source) == published


@pytest.mark.parametrize("fault", ["cut", "no ranges"])
def test_faults_that_pass(published: str, web: Static, store: Store, fault: str) -> None:
    web.fault = fault  # type: ignore[assignment]
    assert local.pull(parse(published), store).digest


@pytest.mark.parametrize(
    ("fault", "error"), [("corrupt", DigestMismatch), ("long", DigestMismatch), ("busy", TransferError)]
)
def test_faults_that_stay(published: str, web: Static, store: Store, fault: str, error: type[Exception]) -> None:
    web.fault = fault  # type: ignore[assignment]
    with pytest.raises(error):
        local.pull(parse(published), store)
    assert store.names() == []


def test_what_is_not_there_or_no_adapter(web: Static, store: Store) -> None:
    with pytest.raises(NotFound):
        local.pull(parse(f"{web.origin}/none.safetensors#sha256={'0' * 64}"), store)
    (web.root / "peft.safetensors").write_bytes(WEIGHTS)
    pin = hashlib.sha256(WEIGHTS).hexdigest()
    with pytest.raises(InputError, match="not an adaptr file"):
        local.pull(parse(f"{web.origin}/peft.safetensors#sha256={pin}"), store)


def test_info_reads_the_start(published: str, web: Static) -> None:
    found = handling.info(published)
    assert (found.method, found.tensors) == ("lora", 2)
    assert {span for _, span in web.log} == {
        "bytes=0-0",
        f"bytes=0-{(web.root / 'style.safetensors').stat().st_size - 1}",
    }


def test_a_layout_on_a_static_server(folder: Path, own: Path, web: Static, tmp_path: Path) -> None:
    sent = api.push(str(folder), f"file://{web.root}/styles#blue")
    api.push(str(own), f"file://{web.root}/styles#green")
    other = Store(tmp_path / "other")
    pulled = local.pull(parse(f"{web.origin}/styles/#blue"), other)
    assert (pulled.digest, pulled.source.digest) == (sent.digest, sent.digest)
    web.log.clear()
    assert local.pull(pulled.source, other).cached
    assert web.log == []
    assert handling.info(f"{web.origin}/styles/#green").method == "lora"
    with pytest.raises(NotFound, match="`blue`, `green`"):
        local.pull(parse(f"{web.origin}/styles/#red"), other)


@pytest.mark.parametrize("fault", ["cut", "corrupt"])
def test_a_layout_on_a_bad_line(folder: Path, web: Static, tmp_path: Path, fault: str) -> None:
    sent = api.push(str(folder), f"file://{web.root}/styles#blue")
    web.fault = fault  # type: ignore[assignment]
    other = Store(tmp_path / "other")
    if fault == "cut":
        assert of("http").pull(parse(f"{web.origin}/styles/#blue"), other) == sent.digest
        return
    with pytest.raises((BadManifest, DigestMismatch)):
        of("http").pull(parse(f"{web.origin}/styles/#blue"), other)
    assert other.names() == []


def test_no_plain_http_to_other_machines(store: Store) -> None:
    for place in ("http://example.com/x.safetensors#sha256=" + "0" * 64, "http://10.0.0.1/layout/#v1"):
        with pytest.raises(PolicyError, match="not encrypted"):
            local.pull(parse(place), store)


def test_redirects_to_secrets_of_the_machine_are_not_followed(published: str, web: Static, store: Store) -> None:
    web.moved["/style.safetensors"] = "http://169.254.169.254/latest/meta-data"
    with pytest.raises(RegistryError, match="link-local"):
        local.pull(parse(published), store)
