"""Signed, pushed to a real registry, pulled elsewhere, verified there: the whole way."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec

import adaptr
import tiny
from adaptr.__main__ import main
from adaptr.testing import shaken
from registry.servers.registry import DockerRegistry


def keys(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_a_signature_goes_with_its_artifact_and_a_policy_holds_it(
    plain: DockerRegistry, repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"oci://{plain.host}/{repository}:1.0"
    file = tmp_path / "a.adaptr.safetensors"
    adaptr.save(shaken(adaptr.create(tiny.model("llama"), "lora", ["attn.q"], r=2, name="style")), file)
    (private, public), (_, strange) = keys(tmp_path, "ours"), keys(tmp_path, "theirs")

    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "here"))
    adaptr.push(file, place)
    assert main(["sign", place, "--key", str(private)]) == 0
    assert adaptr.push(place, place).attachments == 1

    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "there"))
    adaptr.pull(place)
    assert main(["verify", place, "--key", str(public)]) == 0
    assert main(["verify", place, "--key", str(strange)]) == 7

    policy = '- scope: "oci://*"\n  keys: [{}]\n  mode: enforce\n'
    for key, code in ((strange, 7), (public, 0)):
        (tmp_path / "there" / "policy.yaml").write_text(policy.format(key))
        assert main(["inspect", place]) == code
