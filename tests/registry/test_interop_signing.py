"""Signatures against the reference implementation, both ways. It brings 37 packages, so it has an environment of its
own, made once and kept in pytest's cache, and only where `ADAPTR_INTEROP=1` asks for it: `make interop`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adaptr.artifacts import trust
from adaptr.errors import SignatureError
from adaptr.registry.store import Store
from registry.signers import issued, key, no_password, pem, put, secret

pytestmark = pytest.mark.skipif(
    os.environ.get("ADAPTR_INTEROP", "0") == "0", reason="installs model_signing, which takes minutes: make interop"
)
#: The last release; pyOpenSSL it imports and does not ask for.
PACKAGES = ("model_signing==1.1.1", "pyOpenSSL")


@pytest.fixture(scope="module")
def theirs(request: pytest.FixtureRequest) -> Path:
    """The reference's command, in an environment of its own."""
    root = Path(request.config.cache.mkdir("model-signing")) / f"{sys.version_info.major}.{sys.version_info.minor}"
    command = root / "bin" / "model_signing"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", root], check=True)
        pip = [root / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
        installed = subprocess.run(pip, capture_output=True, text=True, timeout=900)
        if installed.returncode:
            pytest.skip(f"model_signing can't be installed here: {installed.stderr[-300:]}")
    return command


def run(theirs: Path, *args: object) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run([theirs, *map(str, args)], capture_output=True, text=True, timeout=120, env=clean)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "m"
    (root / "sub").mkdir(parents=True)
    for name in ("a.safetensors", "sub/b.json", "sub.txt", "sub-c"):  # sorted as text or as paths: not the same
        (root / name).write_text(name)
    return root


@pytest.mark.parametrize("bits", [256, 384, 521])
@pytest.mark.parametrize("alone", [False, True], ids=["folder", "file"])
def test_keys_both_ways(theirs: Path, folder: Path, tmp_path: Path, bits: int, alone: bool) -> None:
    private, public = key(tmp_path / "k.key", bits)
    what, ours, other = folder / "a.safetensors" if alone else folder, tmp_path / "ours.sig", tmp_path / "theirs.sig"
    trust.sign(str(what), private, out=ours, password=no_password)
    said = run(theirs, "verify", "key", what, "--signature", ours, "--public_key", public)
    assert said.returncode == 0, said.stdout + said.stderr
    said = run(theirs, "sign", "key", what, "--signature", other, "--private_key", private)
    assert said.returncode == 0, said.stdout + said.stderr
    assert trust.proven(str(what), [public], (), other).files == (1 if alone else 4)
    (folder / "a.safetensors").write_text("changed")
    assert run(theirs, "verify", "key", what, "--signature", ours, "--public_key", public).returncode != 0
    with pytest.raises(SignatureError, match="changed since"):
        trust.proven(str(what), [public], (), other)


def test_certificates_both_ways(theirs: Path, folder: Path, tmp_path: Path) -> None:
    root = issued("root")
    between = issued("between", root)
    leaf = issued("Acme", between, ca=False)
    ca, own, rest = pem(tmp_path / "ca", root), pem(tmp_path / "own", leaf), pem(tmp_path / "rest", between)
    private, chain = secret(tmp_path / "k", leaf), pem(tmp_path / "chain", leaf, between)
    ours, other = tmp_path / "ours.sig", tmp_path / "theirs.sig"
    trust.sign(str(folder), private, chain, ours, password=no_password)
    said = run(theirs, "verify", "certificate", folder, "--signature", ours, "--certificate_chain", ca)
    assert said.returncode == 0, said.stdout + said.stderr
    given = ("--private_key", private, "--signing_certificate", own, "--certificate_chain", rest)
    said = run(theirs, "sign", "certificate", folder, "--signature", other, *given)
    assert said.returncode == 0, said.stdout + said.stderr
    assert trust.proven(str(folder), (), [ca], other).signers[0]["certificate"] == "CN=Acme"


def test_what_an_artifact_is_signed_with_verifies_its_exported_folder(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    store = Store.default()
    made = put(store, "style:1")
    private, public = key(tmp_path / "k.key")
    trust.sign("style:1", private, out=tmp_path / "s.sig", password=no_password)
    (tmp_path / "out").mkdir()
    store.export(made.digest, tmp_path / "out")
    args = ("verify", "key", tmp_path / "out", "--signature", tmp_path / "s.sig", "--public_key", public)
    said = run(theirs, *args)
    assert said.returncode == 0, said.stdout + said.stderr
