"""`adaptr sign` and `adaptr verify`: files, artifacts, the store; what they print and how they end."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr.registry.store import Store


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    from registry.signers import key

    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ADAPTR_POLICY", raising=False)
    return key(tmp_path / "acme.key", 256, b"secret")


def test_a_name_in_the_store(adaptr: Callable, lora: Path, pair: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTR_KEY_PASSWORD", "secret")
    assert adaptr("tag", lora, "style:1").code == 0
    made = adaptr("sign", "style:1", "--key", pair[0], "--json").json
    assert made["signature"].startswith("sha256:")
    proven = adaptr("verify", "style:1", "--key", pair[1])
    assert proven.code == 0
    assert made["fingerprint"] in proven.out
    assert made["digest"] in proven.out


def test_a_file_and_what_happens_to_it(
    adaptr: Callable, lora: Path, pair: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTR_KEY_PASSWORD", "secret")
    signature = tmp_path / "s.sig"
    assert adaptr("sign", lora, "--key", pair[0], "-o", signature).code == 0
    ask = ("verify", lora, "--key", pair[1], "--signature", signature)
    assert adaptr(*ask).code == 0
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(lora.read_bytes()[:-1] + b"\0")
    assert adaptr("verify", copy, *ask[2:]).code == 7
    assert adaptr("verify", copy, "--key", pair[1]).code == 7


def test_a_wrong_password_is_not_printed(
    adaptr: Callable, lora: Path, pair: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTR_KEY_PASSWORD", "canary-7")
    ran = adaptr("sign", lora, "--key", pair[0], "-v")
    assert ran.code == 3
    assert "canary-7" not in ran.out + ran.err


@pytest.mark.parametrize(
    "args",
    [
        ("x", "--adapter", "a"),
        ("x", "--repair"),
        ("x", "--key", "k", "--repair"),
        ("x", "--base", "b", "--key", "k"),
    ],
)
def test_one_thing_is_proven_at_a_time(adaptr: Callable, pair: tuple, args: tuple[str, ...]) -> None:
    assert adaptr("verify", *args).code == 2


def test_the_store_is_whole_until_it_is_not(adaptr: Callable, lora: Path, pair: tuple) -> None:
    adaptr("tag", lora, "style:1")
    assert adaptr("verify", "--json").json["ok"] is True
    store = Store.default()
    blob = store.path(store.manifest(store.resolve("style:1")).layers[0].digest)
    blob.chmod(0o644)
    blob.write_bytes(b"else")
    ran = adaptr("verify")
    assert ran.code == 1
    assert "damaged" in ran.out
    assert adaptr("verify", "--repair").code == 1


def test_keys_of_openssl_are_read(adaptr: Callable, lora: Path, pair: tuple, tmp_path: Path) -> None:
    key, public = tmp_path / "o.key", tmp_path / "o.pub"
    subprocess.run(["openssl", "ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", key], check=True)
    subprocess.run(["openssl", "ec", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    adaptr("sign", lora, "--key", key, "-o", tmp_path / "s")
    assert adaptr("verify", lora, "--key", public, "--signature", tmp_path / "s").code == 0
