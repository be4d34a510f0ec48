"""From what people name to files here: pulled once, pinned, held to the lock file, used when the network is gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import adaptr
import tiny
from adaptr.artifacts import handling
from adaptr.errors import (
    DigestMismatch,
    InputError,
    NotFound,
    OutputExists,
    PolicyError,
    ReferenceMoved,
    TransferError,
    UnsafePickle,
    UsageError,
)
from adaptr.registry import local, pack, remotes, terms
from adaptr.registry.digest import Digest
from adaptr.registry.reference import Reference, parse
from adaptr.registry.store import Store
from adaptr.sources.resolve import resolve
from adaptr.testing import shaken

REF = "oci://registry.test/acme/style:1.2"


class Shelf(remotes.Remote):
    """A remote in memory: tags to digests, artifacts in a store of its own; it counts what it is asked."""

    name = "oci"

    def __init__(self, root: Path) -> None:
        self.store, self.tags, self.asked, self.down = Store(root), {}, [], False

    def resolve(self, reference: Reference) -> str:
        self._ask("resolve")
        if reference.digest:
            return reference.digest
        if reference.name not in self.tags:
            raise NotFound(f"`{reference}` is not there")
        return self.tags[reference.name]

    def pull(self, reference: Reference, store: Store, progress: object = None) -> Digest:
        self._ask("pull")
        manifest = self.store.manifest(Digest(self.resolve(reference)))
        for blob in manifest.blobs:
            store.add_file(self.store.path(blob.digest))
        return store.add_bytes(manifest.raw)

    def push(
        self, store: Store, digest: Digest, reference: Reference, progress: object = None, force: bool = False
    ) -> remotes.Pushed:
        for blob in store.manifest(digest).blobs:
            self.store.add_file(store.path(blob.digest))
        self.tags[reference.name] = self.store.put(store.manifest(digest))
        return remotes.Pushed(reference, digest, 1, 0)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise TransferError("no route")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    made = Shelf(tmp_path / "far")
    monkeypatch.setattr(remotes, "of", lambda scheme: made)
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ADAPTR_FROZEN", raising=False)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return made


def file(path: Path, seed: int = 1) -> Path:
    adapter = shaken(adaptr.create(tiny.model("llama"), "lora", ["attn.q"], r=2, name="style"), seed)
    adaptr.save(adapter, path)
    return path


def test_what_is_pushed_is_what_every_command_opens(shelf: Shelf, tmp_path: Path) -> None:
    a = file(tmp_path / "a.adaptr.safetensors")
    sent = adaptr.push(a, REF)
    assert sent.digest == shelf.tags["acme/style"]
    here, there = adaptr.load(a), adaptr.load(REF)
    assert all(there.tensors[key].equal(here.tensors[key]) for key in here.tensors)
    assert adaptr.inspect("registry.test/acme/style:1.2").method == "lora"
    made = adaptr.compose([(REF, 0.5), (str(file(tmp_path / "b.adaptr.safetensors", 2)), 0.5)])
    assert made.adapter.lineage["parents"][0]["digest"] == adaptr.inspect(a).file_digest


@pytest.mark.filterwarnings("ignore::adaptr.errors.WeightsIgnored")
@pytest.mark.parametrize("form", ["adaptr", "peft"])
def test_learned_words_go_along_with_their_adapter(form: str, shelf: Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "style"
    a = file(tmp_path / "a.adaptr.safetensors")
    adaptr.convert(a, folder / "a.adaptr.safetensors" if form == "adaptr" else folder, to=form)
    save_file({"<s1>": torch.randn(8)}, folder / "learned_embeds.safetensors")
    adaptr.push(folder, REF)
    adaptr.pull(REF, tmp_path / "pulled")
    words = Path("learned_embeds.safetensors")
    assert (tmp_path / "pulled" / words).read_bytes() == (folder / words).read_bytes()
    assert adaptr.inspect(tmp_path / "pulled").beside == (words.name,)
    assert adaptr.load(tmp_path / "pulled").targets.keys() == adaptr.load(a).targets.keys()


def test_a_push_that_is_refused_names_nothing_here(shelf: Shelf, tmp_path: Path) -> None:
    first = adaptr.push(file(tmp_path / "a.adaptr.safetensors"), REF)

    def refuse(*_: object) -> remotes.Pushed:
        raise ReferenceMoved("a version stays what it is")

    shelf.push = refuse  # type: ignore[method-assign]
    with pytest.raises(ReferenceMoved):
        adaptr.push(file(tmp_path / "b.adaptr.safetensors", 2), REF)
    assert adaptr.pull(REF).digest == first.digest
    assert not adaptr.pull(REF).moved_from


def test_the_same_adapter_has_one_digest_wherever_it_lies(shelf: Shelf, tmp_path: Path) -> None:
    store, a = Store.default(), file(tmp_path / "a.adaptr.safetensors")
    (tmp_path / "folder").mkdir()
    b = file(tmp_path / "folder" / "other-name.adaptr.safetensors")
    assert pack.stored(a, store).raw == pack.stored(b, store).raw
    notes = pack.stored(a, store).annotations
    assert notes[terms.METHOD] == "lora"
    assert notes[terms.RANK] == "2"
    assert notes[terms.TITLE] == "style"
    assert "created" not in json.dumps(dict(notes))


def test_a_digest_that_is_here_asks_nobody(shelf: Shelf, tmp_path: Path) -> None:
    sent = adaptr.push(file(tmp_path / "a.adaptr.safetensors"), REF)
    pinned = f"oci://registry.test/acme/style@{sent.digest}"
    shelf.down = True
    assert adaptr.pull(pinned).cached
    assert not shelf.asked


def test_a_tag_that_moved_is_followed_and_told(shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = adaptr.push(file(tmp_path / "a.adaptr.safetensors"), REF)
    other = pack.stored(file(tmp_path / "b.adaptr.safetensors", 2), shelf.store)
    shelf.tags["acme/style"] = shelf.store.put(other)
    pulled = adaptr.pull(REF)
    assert (pulled.digest, pulled.moved_from) == (other.digest, first.digest)
    assert "moved" in caplog.text
    assert adaptr.pull(REF).cached


def test_without_a_network_what_was_pulled_is_used_with_a_warning(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent = adaptr.push(file(tmp_path / "a.adaptr.safetensors"), REF)
    shelf.down = True
    assert adaptr.pull(REF).digest == sent.digest
    assert "can't be asked" in caplog.text
    with pytest.raises(TransferError):
        adaptr.pull("oci://registry.test/acme/other:1")


def test_a_lock_file_pins_and_a_frozen_project_refuses_the_rest(shelf: Shelf, tmp_path: Path) -> None:
    first = adaptr.push(file(tmp_path / "a.adaptr.safetensors"), REF)
    adaptr.pull(REF, lock=True)
    written = Path("adaptr.lock").read_bytes()
    other = pack.stored(file(tmp_path / "b.adaptr.safetensors", 2), shelf.store)
    shelf.tags["acme/style"] = shelf.store.put(other)
    shelf.asked.clear()
    assert adaptr.pull(REF).digest == first.digest
    assert not shelf.asked
    assert adaptr.pull(REF, frozen=True).digest == first.digest
    with pytest.raises(PolicyError, match="--lock"):
        adaptr.pull("oci://registry.test/acme/other:1", frozen=True)
    assert Path("adaptr.lock").read_bytes() == written
    assert adaptr.pull(REF, accept_change=True).digest == other.digest
    assert json.loads(Path("adaptr.lock").read_bytes())["artifacts"][REF]["digest"] == other.digest


def test_a_pinned_artifact_comes_again_from_where_it_was(shelf: Shelf, tmp_path: Path) -> None:
    first = adaptr.push(file(tmp_path / "a.adaptr.safetensors"), REF)
    adaptr.pull(REF, lock=True)
    shelf.tags["acme/style"] = shelf.store.put(pack.stored(file(tmp_path / "b.adaptr.safetensors", 2), shelf.store))
    adaptr_home = tmp_path / "another"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTR_HOME", str(adaptr_home))
        assert adaptr.pull(REF).digest == first.digest


def test_another_artifact_under_a_pin_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    adaptr.push(file(tmp_path / "a.adaptr.safetensors"), REF)
    pulled = local.pull(parse(REF), Store.default())
    local.lock(pulled)
    wrong = Digest("sha256:" + "0" * 64)
    with pytest.raises(ReferenceMoved, match="--accept-change"):
        local.lock(local.Pulled(pulled.reference, wrong, pulled.source, None, False))
    text = Path("adaptr.lock").read_text().replace(f'"digest": "{pulled.digest}"', f'"digest": "{wrong}"')
    Path("adaptr.lock").write_text(text)
    with pytest.raises(DigestMismatch, match="is pinned to"):
        adaptr.pull(REF)


@pytest.mark.parametrize("text", ["{", '{"version": 2, "artifacts": {}}', '{"version": 1, "artifacts": {"a": 1}}'])
def test_a_damaged_lock_file_is_said(shelf: Shelf, text: str) -> None:
    Path("adaptr.lock").write_text(text)
    with pytest.raises(InputError, match=r"adaptr\.lock"):
        adaptr.pull(REF)


def test_files_are_written_as_they_are_or_for_peft(shelf: Shelf, tmp_path: Path) -> None:
    a = file(tmp_path / "a.adaptr.safetensors")
    adaptr.push(a, REF)
    adaptr.pull(REF, tmp_path / "out")
    assert (tmp_path / "out" / pack.NAME).read_bytes() == a.read_bytes()
    adaptr.pull(REF, tmp_path / "peft", "peft")
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {p.name for p in (tmp_path / "peft").iterdir()}
    with pytest.raises(OutputExists):
        adaptr.pull(REF, tmp_path / "out")
    with pytest.raises(UsageError, match="say where"):
        adaptr.pull(REF, to="peft")
    adaptr.push(tmp_path / "peft", "oci://registry.test/acme/back:1", "adaptr")
    back, first = adaptr.load("oci://registry.test/acme/back:1"), adaptr.load(a)
    assert all(back.tensors[key].equal(first.tensors[key]) for key in first.tensors)


def test_names_in_the_store_are_adapters_everywhere_and_paths_come_first(shelf: Shelf, tmp_path: Path) -> None:
    handling.tag(str(file(tmp_path / "a.adaptr.safetensors")), "style:1")
    assert adaptr.inspect("style:1").method == "lora"
    file(Path("style"), 2)
    assert adaptr.inspect("style").file == "style"
    handling.remove("style:1")
    with pytest.raises(InputError, match="there is nothing at `style:1`"):
        adaptr.inspect("style:1")


@pytest.mark.parametrize("there", ["a file", "a link to nowhere"])
def test_a_path_that_exists_is_never_taken_for_a_name(shelf: Shelf, tmp_path: Path, there: str) -> None:
    """Also where what is at the path can't be read: the name would be another adapter, in silence."""
    handling.tag(str(file(tmp_path / "a.adaptr.safetensors")), "style")
    if there == "a file":
        file(Path("style"), 2)
    else:
        Path("style").symlink_to("nowhere")
    assert resolve("style").path == Path("style")
    for use in (adaptr.inspect, lambda source: handling.tag(source, "again")):
        if there == "a file":
            assert use("style")
        else:
            with pytest.raises(InputError, match=r"nothing at|no file"):
                use("style")


def test_a_mistyped_path_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="there is nothing"):
        adaptr.inspect("nothing-here")
    assert not (tmp_path / "elsewhere").exists()


def test_what_can_run_code_is_never_published(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "adapter_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "old" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(UnsafePickle, match="adaptr convert"):
        adaptr.push(tmp_path / "old", REF)
    with pytest.raises(InputError, match="no such name"):
        adaptr.push("nonsuch", REF)
    with pytest.raises(UsageError, match="names no remote"):
        adaptr.push(tmp_path / "old", "style")


def test_a_recipe_names_what_a_command_line_names(tmp_path: Path) -> None:
    """Found in 0.1.0: names of the store were paths there."""
    own = file(tmp_path / "a.adaptr.safetensors")
    handling.tag(str(own), "style:1.2")
    recipe = tmp_path / "mine" / "r.yaml"
    recipe.parent.mkdir()
    recipe.write_text("inputs:\n  - adapter: style:1.2\n    weight: 0.5\n")
    wanted = adaptr.compose([("style:1.2", 0.5)], out=tmp_path / "x")
    assert adaptr.compose(recipe, out=tmp_path / "y").report.inputs == wanted.report.inputs
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    beside = file(recipe.parent / "style:1.2", seed=2)
    assert adaptr.compose(recipe).report.inputs == adaptr.compose([(beside, 0.5)]).report.inputs
    beside.unlink()
    recipe.write_text("inputs:\n  - adapter: nobody:1\n")
    with pytest.raises(InputError, match=r"nothing at `.*mine/nobody:1`"):
        adaptr.compose(recipe)
