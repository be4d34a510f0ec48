"""`file://`: folders, files and OCI layouts of this machine."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from adaptr import api
from adaptr.artifacts import handling
from adaptr.errors import DigestMismatch, NotFound, OutputExists, ReferenceMoved
from adaptr.registry import local, pack, terms
from adaptr.registry.manifest import Manifest
from adaptr.registry.reference import parse
from adaptr.registry.remotes import of
from adaptr.registry.store import Store


def test_a_folder_and_a_file_are_copied_in(folder: Path, own: Path, store: Store) -> None:
    first = local.pull(parse(f"file://{folder}"), store)
    second = local.pull(parse(f"file://{own}"), store)
    assert store.manifest(first.digest).annotations[terms.FORMAT] == "peft"
    assert set(store.manifest(second.digest).files()) == {pack.NAME}
    (folder / "adapter_model.safetensors").write_bytes(b"changed")
    assert api.load(store.view(first.digest)).method == "lora"


def test_a_pin_holds(folder: Path, own: Path, store: Store) -> None:
    pulled = local.pull(parse(f"file://{folder}"), store)
    file = hashlib.sha256(own.read_bytes()).hexdigest()
    assert local.pull(parse(f"file://{own}#sha256={file}"), store).digest
    (folder / "README.md").write_text("other words")
    with pytest.raises(DigestMismatch):
        of("file").pull(pulled.source, Store(store.root.parent / "fresh"))
    with pytest.raises(DigestMismatch):
        of("file").pull(parse(f"file://{own}#sha256={'0' * 64}"), store)


def test_what_is_not_there(tmp_path: Path, store: Store) -> None:
    with pytest.raises(NotFound, match="nothing at"):
        local.pull(parse(f"file://{tmp_path}/none"), store)
    with pytest.raises(NotFound, match="no OCI layout"):
        local.pull(parse(f"file://{tmp_path}/none#tag"), store)


def test_a_layout_is_written_extended_and_read(folder: Path, own: Path, store: Store, tmp_path: Path) -> None:
    place = f"file://{tmp_path}/layout"
    first = api.push(str(folder), f"{place}#blue")
    assert first.skipped == 0
    again = api.push(str(folder), f"{place}#blue")
    assert again.uploaded == 0
    api.push(str(own), f"{place}#green")
    other = Store(tmp_path / "other")
    assert of("file").pull(parse(f"{place}#blue"), other) == first.digest
    assert api.load(f"{place}#green").method == "lora"
    assert {entry.name.partition("#")[0] for entry in (tmp_path / "layout").iterdir()} >= {"blobs", "index.json"}
    found = handling.info(f"{place}#green")
    assert (found.method, found.tensors, found.rank) == ("lora", 2, "2")


@pytest.mark.parametrize("mark", ["", "#blue"])
def test_what_is_written_here_leaves_no_name_in_the_store(folder: Path, tmp_path: Path, mark: str) -> None:
    sent = api.push(str(folder), f"file://{tmp_path}/layout{mark}")
    handling.copy(f"file://{folder}", f"file://{tmp_path}/other{mark}")
    assert handling.list() == []
    handling.tag(str(folder), "style:1")
    handling.copy(f"file://{tmp_path}/layout{mark}", f"file://{tmp_path}/more#1")
    assert [one.name for one in handling.list() if one.digest == sent.digest and not one.reference] == ["style:1"]


def test_without_a_name_a_layout_means_its_only_artifact_or_the_latest(folder: Path, own: Path, tmp_path: Path) -> None:
    place = f"file://{tmp_path}/layout"
    first = api.push(str(folder), f"{place}#blue")
    assert of("file").resolve(parse(place)) == first.digest
    api.push(str(own), f"{place}#green")
    with pytest.raises(NotFound, match="`blue`, `green`"):
        of("file").resolve(parse(place))
    latest = api.push(str(own), place)
    assert of("file").resolve(parse(place)) == latest.digest


def test_a_name_moves_only_when_asked(folder: Path, own: Path, tmp_path: Path) -> None:
    place = f"file://{tmp_path}/layout#v1"
    api.push(str(folder), place)
    with pytest.raises(ReferenceMoved, match="force=True"):
        api.push(str(own), place)
    assert api.push(str(own), place, force=True).digest == of("file").resolve(parse(place))


def test_other_folders_are_left_alone(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputExists, match="no OCI layout"):
        api.push(str(folder), f"file://{folder}#v1")
    assert not (folder / "oci-layout").exists()


def test_what_is_attached_goes_along(folder: Path, store: Store, tmp_path: Path) -> None:
    digest = of("file").pull(parse(f"file://{folder}"), store)
    manifest = store.manifest(digest)
    note = Manifest.make(manifest.config, [], terms.BUNDLE, {}, manifest.descriptor)
    store.put(note)
    of("file").push(store, digest, parse(f"file://{tmp_path}/layout#v1"))
    other = Store(tmp_path / "other")
    of("file").pull(parse(f"file://{tmp_path}/layout#v1"), other)
    assert [one.digest for one in other.referrers(digest)] == [note.digest]


def test_a_changed_blob_is_found(folder: Path, tmp_path: Path) -> None:
    sent = api.push(str(folder), f"file://{tmp_path}/layout#v1")
    other = Store(tmp_path / "other")
    weights = Store.default().manifest(sent.digest).layers[0].digest
    blob = tmp_path / "layout" / "blobs" / "sha256" / weights.hex
    data = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(data[:-1] + b"\x77")
    with pytest.raises(DigestMismatch):
        of("file").pull(parse(f"file://{tmp_path}/layout#v1"), other)
    assert not other.has(weights)


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_skopeo_reads_and_extends_a_layout(folder: Path, own: Path, tmp_path: Path) -> None:
    sent = api.push(str(folder), f"file://{tmp_path}/layout#v1")
    said = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{tmp_path}/layout:v1"], capture_output=True, check=True
    ).stdout
    assert "sha256:" + hashlib.sha256(said).hexdigest() == sent.digest
    subprocess.run(["skopeo", "copy", "--quiet", f"oci:{tmp_path}/layout:v1", f"oci:{tmp_path}/theirs:v2"], check=True)
    assert of("file").pull(parse(f"file://{tmp_path}/theirs#v2"), Store(tmp_path / "other")) == sent.digest
    api.push(str(own), f"file://{tmp_path}/theirs#v3")
    names = json.loads((tmp_path / "theirs" / "index.json").read_text())["manifests"]
    assert [one["annotations"][terms.REF_NAME] for one in names] == ["v2", "v3"]
