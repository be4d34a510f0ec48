"""Keys: locked ones, what is none, and their fingerprints."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from adaptr.artifacts import trust
from adaptr.errors import InputError
from adaptr.registry.signing import keys
from registry.signers import PEM, PKCS8, key, no_password


def test_a_password_is_asked_only_for_a_key_that_has_one(folder: Path, tmp_path: Path) -> None:
    private, public = key(tmp_path / "locked.key", 256, b"secret")
    trust.sign(str(folder), private, password=lambda: "secret")
    trust.proven(str(folder), [public])
    with pytest.raises(InputError, match="password is another") as caught:
        trust.sign(str(folder), private, password=lambda: "wrong-guess", force=True)
    assert "wrong-guess" not in str(caught.value)


def test_keys_that_are_none_are_named(tmp_path: Path, mine: tuple[Path, Path]) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "ed").write_bytes(other.private_bytes(PEM, PKCS8, serialization.NoEncryption()))
    (tmp_path / "long").write_bytes(b" " * (keys.MAX + 1))
    (tmp_path / "text").write_text("no key")
    for name, said in {
        "ed": "P-256",
        "long": "longer than",
        "text": "no private key",
        "absent": "there is no file",
    }.items():
        with pytest.raises(InputError, match=said):
            keys.private(tmp_path / name, no_password)
    with pytest.raises(InputError, match="is a private key"):
        keys.public(mine[0])
    with pytest.raises(InputError, match="no public key"):
        keys.public(tmp_path / "text")


def test_a_fingerprint_is_what_openssl_says(mine: tuple[Path, Path]) -> None:
    raw = subprocess.run(["sha256sum", mine[1]], capture_output=True, text=True, check=True).stdout
    assert raw.split()[0] == keys.fingerprint(keys.public(mine[1]))
