"""Signatures of artifacts in a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adaptr.artifacts import handling, trust
from adaptr.errors import DigestMismatch, InputError, SignatureError
from adaptr.registry import terms
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.signing import artifact, keys
from adaptr.registry.signing.bundle import Signer
from adaptr.registry.store import Store
from registry.signers import key, no_password, put, sign

VECTOR = Path(__file__).resolve().parents[3] / "registry_spec/vectors/valid/minimal_lora.safetensors"


def test_an_artifact_is_signed_where_it_is(home: Store, mine: tuple[Path, Path]) -> None:
    made = put(home, "style:1")
    signed = trust.sign("style:1", mine[0], password=no_password)
    proven = trust.proven("style:1", [mine[1]])
    assert proven.claims == {"manifest": made.digest, "base": "acme/base@1", "name": "style", "version": "1.2"}
    assert signed.files.keys() == {"adapter_model.safetensors", "adapter_config.json"}
    (carrier,) = home.referrers(made.digest)
    assert carrier.digest == signed.signature
    assert carrier.artifact_type == carrier.layers[0].media_type == terms.BUNDLE
    assert carrier.config.media_type == terms.OCI_EMPTY
    assert carrier.annotations == {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": "https://model_signing/signature/v1.0",
    }
    assert trust.sign("style:1", mine[0], password=no_password).signature == signed.signature
    assert len(home.referrers(made.digest)) == 1


def test_the_bundle_of_an_artifact_fits_the_folder_it_is_written_to(
    home: Store, mine: tuple[Path, Path], tmp_path: Path
) -> None:
    made = put(home, "style:1")
    trust.sign("style:1", mine[0], out=tmp_path / "s.sig", password=no_password)
    (tmp_path / "out").mkdir()
    home.export(made.digest, tmp_path / "out")
    assert trust.proven(str(tmp_path / "out"), [mine[1]], (), tmp_path / "s.sig").files == 2
    assert trust.proven("style:1", [mine[1]], (), tmp_path / "s.sig").files == 2


def test_a_signature_of_another_artifact_proves_nothing(home: Store, mine: tuple[Path, Path]) -> None:
    """The same files under other words: the files are right, and what is said of them is not what was signed."""
    signed, other = put(home, "style:1"), put(home, "style:2", **{terms.BASE_MODEL: "evil/base@1"})
    _, raw = artifact.sign(signed, home, Signer(keys.private(mine[0], no_password)))
    config = Descriptor(terms.OCI_EMPTY, home.add_bytes(b"{}"), 2)
    layer = Descriptor(terms.BUNDLE, home.add_bytes(raw), len(raw))
    home.put(Manifest.make(config, [layer], terms.BUNDLE, {}, other.descriptor))
    with pytest.raises(SignatureError, match="the artifact is not"):
        trust.proven("style:2", [mine[1]])
    trust.proven("style:1", [mine[1]])


def test_one_right_signature_among_wrong_ones_is_enough(home: Store, mine: tuple[Path, Path], tmp_path: Path) -> None:
    put(home, "style:1")
    trust.sign("style:1", key(tmp_path / "other.key")[0], password=no_password)
    with pytest.raises(SignatureError, match="none that is right"):
        trust.proven("style:1", [mine[1]])
    trust.sign("style:1", mine[0], password=no_password)
    assert len(trust.proven("style:1", [mine[1]]).signers) == 1


def test_a_blob_that_was_changed_in_the_store_is_found(home: Store, mine: tuple[Path, Path]) -> None:
    made = put(home, "style:1")
    trust.sign("style:1", mine[0], password=no_password)
    blob = home.root / "blobs/sha256" / made.layers[0].digest.hex
    blob.chmod(0o644)
    blob.write_bytes(b"wEights")
    with pytest.raises(DigestMismatch):
        trust.proven("style:1", [mine[1]])


def test_signatures_need_neither_torch_nor_numpy() -> None:
    code = "import sys, adaptr.artifacts.trust as t; print('torch' in sys.modules, 'numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


def test_a_link_to_nowhere_is_never_taken_for_a_name(
    mine: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another artifact would be signed, or proven, in its place."""
    monkeypatch.chdir(tmp_path)
    handling.tag(str(VECTOR), "style")
    sign(Path("style"), mine[0])
    Path("style").symlink_to("nowhere")
    with pytest.raises(InputError):
        sign(Path("style"), mine[0])
    with pytest.raises((InputError, SignatureError)):
        trust.proven("style", [mine[1]])
