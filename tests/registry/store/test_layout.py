"""The store: content under its digest, names in an index, and nothing believed that was not hashed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from adaptr.errors import DigestMismatch, NotFound, StoreUnsafe
from adaptr.registry import terms
from adaptr.registry.client import address, pins
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.signing import policy
from adaptr.registry.store import Store
from adaptr.registry.store.health import examined
from adaptr.registry.store.sweep import collect


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def artifact(store: Store, data: bytes = b"weights", **annotations: str) -> Manifest:
    said = {terms.TITLE: "a.safetensors", terms.FILEPATH: "a.safetensors"}
    layer = Descriptor(terms.WEIGHTS_LAYER, store.add_bytes(data), len(data), said)
    config = Descriptor(terms.OCI_EMPTY, store.add_bytes(b"{}"), 2)
    return Manifest.make(config, [layer], terms.MODEL_ARTIFACT, annotations)


def blob(store: Store, digest: str) -> Path:
    return store.root / "blobs" / "sha256" / digest.removeprefix("sha256:")


def damage(path: Path, data: bytes = b"w3ights") -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_blob_is_what_its_name_says(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    digest = store.add_file(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"other")
    assert digest == Digest.of(b"hello") == store.add_bytes(b"hello")
    assert store.path(digest).read_bytes() == b"hello"
    assert store.path(digest).stat().st_mode & 0o777 == 0o444
    assert not list((store.root / "ingest").iterdir())


def test_a_blob_that_was_changed_is_noticed(store: Store) -> None:
    digest = store.add_bytes(b"weights")
    damage(blob(store, digest))
    with pytest.raises(DigestMismatch, match="verify --repair"):
        store.path(digest)
    with pytest.raises(DigestMismatch):
        store.read(digest)


def test_a_link_in_place_of_a_blob_is_noticed(store: Store, tmp_path: Path) -> None:
    digest = store.add_bytes(b"weights")
    (tmp_path / "elsewhere").write_bytes(b"weights")
    blob(store, digest).unlink()
    blob(store, digest).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DigestMismatch):
        store.path(digest)


def test_names_are_kept_moved_and_taken_away(store: Store) -> None:
    one, two = artifact(store), artifact(store, b"others")
    store.put(one, "style:latest")
    store.put(two, "style:2")
    assert store.resolve("style") == one.digest
    store.tag("style", two.digest)
    assert store.resolve("style") == two.digest == store.resolve("style:2")
    store.untag("style")
    with pytest.raises(NotFound, match="adaptr list"):
        store.resolve("style")
    assert [entry.name for entry in store.names()] == ["style:2"]
    assert store.lookup(two.digest) == two.digest


def test_a_manifest_comes_after_its_blobs(store: Store) -> None:
    whole = artifact(store)
    blob(store, whole.layers[0].digest).unlink()
    with pytest.raises(NotFound, match="blobs come before"):
        store.put(whole, "style:latest")
    assert not store.names()


def test_a_view_shows_the_files_and_repairs_itself(store: Store, tmp_path: Path) -> None:
    whole = artifact(store)
    store.put(whole, "style:latest")
    view = store.view(whole.digest)
    assert (view / "a.safetensors").read_bytes() == b"weights"
    (tmp_path / "evil").write_bytes(b"evil")
    (view / "a.safetensors").unlink()
    (view / "a.safetensors").symlink_to(tmp_path / "evil")
    (view / "adapter_config.json").write_text("{}")
    assert (store.view(whole.digest) / "a.safetensors").read_bytes() == b"weights"
    assert [path.name for path in view.iterdir()] == ["a.safetensors"]


def test_entries_of_other_tools_are_kept(store: Store) -> None:
    other = artifact(store, b"theirs")
    store.add_bytes(other.raw)
    entry = {**other.descriptor.document(), "annotations": {terms.REF_NAME: "theirs"}, "platform": {"os": "linux"}}
    index = {"schemaVersion": 2, "manifests": [entry], "annotations": {"kept": "yes"}}
    (store.root / "index.json").write_text(json.dumps(index))
    store.put(artifact(store), "mine:latest")
    after = json.loads((store.root / "index.json").read_bytes())
    assert after["annotations"] == {"kept": "yes"}
    assert after["manifests"][0] == entry
    assert store.resolve("theirs") == other.digest


def test_a_store_that_others_can_write_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(StoreUnsafe, match="by others"):
        Store(root)


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077, 0o777])
def test_the_umask_changes_nothing(mask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "new" / "home"))
    before = os.umask(mask)
    try:
        store = Store.default()
        store.put(artifact(store), "style:latest")
        pins.pin(address.origin("https://a.test"), address.origin("https://b.test"))
        Store.default()
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "new").rglob("*") if path.is_dir()}
    assert modes == {0o755}
    files = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if path.stat().st_mode & 0o022]


def test_a_home_that_others_can_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    Store.default()
    (tmp_path / "home").chmod(0o777)
    with pytest.raises(StoreUnsafe, match="by others"):
        Store.default()


def test_a_home_that_others_can_move_away_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its policy with it. Where the folder above leaves to each what is theirs, they can't."""
    above = tmp_path / "above"
    monkeypatch.setenv("ADAPTR_HOME", str(above / "mine" / "home"))
    Store.default()
    above.chmod(0o777)
    for use in (Store.default, policy.place):
        with pytest.raises(StoreUnsafe, match="by everybody"):
            use()
    above.chmod(0o1777)
    Store.default()
    above.chmod(0o775)
    assert policy.place() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_store_of_somebody_else_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    os.chown(root, 12345, 12345)
    with pytest.raises(StoreUnsafe, match="another user"):
        Store(root)


def test_garbage_goes_and_what_a_name_leads_to_stays(store: Store) -> None:
    kept, lost = artifact(store), artifact(store, b"lost")
    store.put(kept, "kept:latest")
    store.put(lost, "lost:latest")
    signature = Manifest.make(kept.config, [], terms.BUNDLE, {}, kept.descriptor)
    store.put(signature)
    orphan = Manifest.make(kept.config, [], terms.BUNDLE, {}, lost.descriptor)
    store.put(orphan)
    store.untag("lost")
    assert not collect(store).blobs  # all of it is younger than a day
    would = collect(store, 0, dry=True)
    assert store.has(lost.digest)
    swept = collect(store, 0)
    assert set(swept.blobs) == set(would.blobs) == {lost.digest, lost.layers[0].digest, orphan.digest}
    assert store.referrers(kept.digest) == [signature]
    assert store.view(kept.digest).is_dir()
    assert examined(store).ok


def test_health_finds_what_is_damaged_and_missing(store: Store) -> None:
    one, two = artifact(store), artifact(store, b"others")
    store.put(one, "one:latest")
    store.put(two, "two:latest")
    assert examined(store).ok
    damage(blob(store, one.layers[0].digest))
    blob(store, two.layers[0].digest).unlink()
    found = {finding.name: finding.what for finding in examined(store).findings}
    assert found == {"one:latest": "damaged", "two:latest": "missing"}


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_reads_the_store_and_adds_to_it(store: Store, tmp_path: Path) -> None:
    whole = artifact(store)
    store.put(whole, "style:latest")
    out = f"oci:{tmp_path / 'copy'}:there"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{store.root}:style:latest", out], check=True, capture_output=True)
    copy = Store(tmp_path / "copy")
    assert copy.resolve("there") == whole.digest
    subprocess.run(["skopeo", "copy", "-q", out, f"oci:{store.root}:back:1"], check=True, capture_output=True)
    assert store.resolve("back:1") == store.resolve("style") == whole.digest
