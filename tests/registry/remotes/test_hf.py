"""`hf://` against a Hub on this machine."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import pytest

from adaptr import api
from adaptr.errors import (
    AuthError,
    DigestMismatch,
    InputError,
    NotFound,
    RegistryError,
    TransferError,
    UnsafeName,
    UnsafePickle,
    Unsupported,
)
from adaptr.registry import local, pack, terms
from adaptr.registry.reference import parse
from adaptr.registry.remotes import of
from adaptr.registry.store import Store
from registry.published import CONFIG, LAYER, PEFT, WEIGHTS, written
from registry.servers.repositories import TOKEN, Hub
from registry.servers.safetensors import packed


def test_a_peft_repository_is_an_adapter(hub: Hub, store: Store, tmp_path: Path) -> None:
    pulled = local.pull(parse("hf://acme/style"), store)
    notes = store.manifest(pulled.digest).annotations
    wanted = {terms.METHOD: "lora", terms.RANK: "2", terms.FORMAT: "peft", terms.BASE_MODEL: "acme/base"}
    assert wanted.items() <= notes.items()
    assert pulled.source.tag == hub.repositories["acme/style"].branches["main"]
    assert api.load("hf://acme/style").method == "lora"
    for name, data in PEFT.items():
        assert (store.view(pulled.digest) / name).read_bytes() == data


def test_it_has_the_digest_of_the_same_files_in_a_folder(hub: Hub, store: Store, tmp_path: Path) -> None:
    folder = written(tmp_path / "folder")
    (folder / "optimizer.pt").write_bytes(b"never packed")
    assert pack.stored(folder, store).digest == of("hf").pull(parse("hf://acme/style"), store)


def test_a_commit_that_is_here_asks_nothing(hub: Hub, store: Store) -> None:
    commit = hub.repositories["acme/style"].branches["main"]
    local.pull(parse(f"hf://acme/style@{commit}"), store)
    hub.log.clear()
    assert local.pull(parse(f"hf://acme/style@{commit}"), store).cached
    assert hub.log == []


def test_a_branch_that_moved_is_pulled_again_and_told(hub: Hub, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    first = local.pull(parse("hf://acme/style"), store)
    assert local.pull(parse("hf://acme/style"), store).cached
    hub.repositories["acme/style"].commit(
        {
            "adapter_model.safetensors": packed(
                {f"{LAYER}.lora_A.weight": (2, 8), f"{LAYER}.lora_B.weight": (8, 2)}, fill=5
            )
        }
    )
    with caplog.at_level(logging.WARNING, "adaptr"):
        second = local.pull(parse("hf://acme/style"), store)
    assert (second.before, second.cached) == (first.digest, False)
    assert "moved" in caplog.text


def test_a_folder_of_a_repository(hub: Hub, store: Store) -> None:
    hub.add("acme/many", {f"styles/blue/{name}": data for name, data in PEFT.items()})
    found = of("hf").pull(parse("hf://acme/many#styles/blue"), store)
    assert set(store.manifest(found).files()) == set(PEFT)
    with pytest.raises(NotFound, match="styles/red"):
        of("hf").pull(parse("hf://acme/many#styles/red"), store)


def test_large_files_come_from_elsewhere_without_the_token(
    hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    of("hf").pull(parse("hf://acme/style"), store)
    assert {(one.host.partition(":")[0], one.token) for one in hub.asked("/cdn/")} == {("localhost", False)}
    assert all(one.token for one in hub.log if not one.path.startswith("/cdn/"))


@pytest.mark.parametrize("config", [True, False], ids=["in git", "in large-file storage"])
def test_a_changed_byte_is_found(hub: Hub, store: Store, config: bool) -> None:
    if not config:
        hub.repositories["acme/style"].commits = {
            sha: {name: data for name, data in tree.items() if name.endswith(".safetensors")}
            for sha, tree in hub.repositories["acme/style"].commits.items()
        }
    hub.fault = "corrupt"
    with pytest.raises(DigestMismatch):
        of("hf").pull(parse("hf://acme/style"), store)
    assert not store.has(f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}")
    assert store.names() == []


def test_what_was_cut_goes_on_where_it_stopped(hub: Hub, store: Store) -> None:
    hub.fault = "cut"
    of("hf").pull(parse("hf://acme/style"), store)
    assert [one.range for one in hub.asked("/cdn/")] == ["", f"bytes={len(WEIGHTS) // 2}-"]


def test_a_busy_hub_is_asked_again(hub: Hub, store: Store) -> None:
    hub.busy = 2
    of("hf").pull(parse("hf://acme/style"), store)
    hub.busy = 1000
    with pytest.raises(TransferError, match="429"):
        of("hf").resolve(parse("hf://acme/style"))


def test_a_busy_hub_is_not_needed_for_what_is_here(hub: Hub, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    first = local.pull(parse("hf://acme/style"), store)
    hub.busy = 1000
    assert local.pull(parse("hf://acme/style"), store).digest == first.digest
    assert "can't be asked" in caplog.text


def test_offline_asks_nothing(hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(TransferError, match="HF_HUB_OFFLINE"):
        local.pull(parse("hf://acme/style"), store)
    assert hub.log == []


def test_who_may_not_read_is_told_what_to_do(hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("acme/secret", PEFT, private=True)
    hub.add("acme/gated", PEFT, gated=True)
    with pytest.raises(AuthError, match=r"not logged in.*HF_TOKEN"):
        of("hf").pull(parse("hf://acme/secret"), store)
    with pytest.raises(AuthError, match="gated"):
        of("hf").pull(parse("hf://acme/gated"), store)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_canary")
    with pytest.raises(AuthError, match="may not read") as refused:
        of("hf").pull(parse("hf://acme/secret"), store)
    assert "canary" not in str(refused.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    of("hf").pull(parse("hf://acme/secret"), store)


def test_what_is_not_there(hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(NotFound, match="no such repository"):
        of("hf").pull(parse("hf://acme/none"), store)
    with pytest.raises(NotFound, match="no such revision"):
        of("hf").pull(parse("hf://acme/style@v9"), store)
    hub.add("acme/words", {"README.md": b"# only words"})
    with pytest.raises(InputError, match="no safetensors file"):
        of("hf").pull(parse("hf://acme/words"), store)


@pytest.mark.parametrize("name", ["adapter_model.bin", "pytorch_model.bin", "model.pt", "last.ckpt"])
def test_pickles_are_refused_by_name_and_not_fetched(hub: Hub, store: Store, name: str) -> None:
    hub.add(
        "acme/old",
        {"adapter_config.json": json.dumps(CONFIG).encode(), name: b"\x80\x04.", "other.safetensors": WEIGHTS},
    )
    with pytest.raises(UnsafePickle, match=name):
        of("hf").pull(parse("hf://acme/old"), store)
    assert hub.asked("/resolve/") == []


def test_pickles_beside_safe_weights_are_left(hub: Hub, store: Store) -> None:
    hub.add("acme/both", {**PEFT, "adapter_model.bin": b"\x80\x04.", "optimizer.pt": b"\x80\x04."})
    assert of("hf").pull(parse("hf://acme/both"), store) == of("hf").pull(parse("hf://acme/style"), store)


def test_names_that_lead_elsewhere_are_refused(hub: Hub, store: Store) -> None:
    hub.add("acme/evil", {**PEFT, "..\\evil.json": b"{}"})
    with pytest.raises(UnsafeName, match="evil"):
        of("hf").pull(parse("hf://acme/evil"), store)


def test_info_reads_the_header_alone(hub: Hub, store: Store) -> None:
    big = packed({f"{LAYER}.lora_A.weight": (2, 200_000), f"{LAYER}.lora_B.weight": (8, 2)})
    hub.add("acme/big", {**PEFT, "adapter_model.safetensors": big})
    from adaptr.artifacts import handling

    found = handling.info("hf://acme/big")
    assert (found.method, found.rank, found.base, found.license) == ("lora", "2", "acme/base", "mit")
    assert (found.tensors, found.revision) == (2, hub.repositories["acme/big"].branches["main"])
    assert {one.range for one in hub.asked("/cdn/")} == {"bytes=0-65535"}
    assert store.names() == []


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the library's own call
def test_push_makes_the_repository_and_what_comes_back_is_the_same(
    hub: Hub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "mine")
    with pytest.raises(AuthError, match="HF_TOKEN"):
        api.push(str(folder), "hf://acme/mine")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    sent = api.push(str(folder), "hf://acme/mine@next")
    assert set(hub.repositories["acme/mine"].branches) == {"main", "next"}
    assert sent.reference == f"hf://acme/mine@{hub.repositories['acme/mine'].branches['next']}"
    assert of("hf").pull(parse("hf://acme/mine@next"), Store(tmp_path / "other")) == sent.digest
    with pytest.raises(Unsupported, match="commit"):
        api.push(str(folder), sent.reference)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_push_gives_a_card_where_there_is_none(
    hub: Hub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from huggingface_hub import ModelCard

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    folder = written(tmp_path / "mine")
    (folder / "README.md").unlink()
    sent = api.push(str(folder), "hf://acme/mine")
    text = card_of(hub, "acme/mine")
    assert text in caplog.text
    said = ModelCard(text).data
    config = json.loads((folder / "adapter_config.json").read_text())
    assert said.base_model == config["base_model_name_or_path"]
    assert (said.base_model_relation, said.library_name, said.tags) == ("adapter", "peft", ["adaptr", "lora"])
    assert "adaptr merge hf://" in text
    assert 'AutoPeftModel.from_pretrained("acme/mine")' in text
    assert of("hf").pull(parse("hf://acme/mine"), Store(tmp_path / "other")) == sent.digest
    caplog.clear()
    api.push(str(folder), "hf://acme/mine")
    assert caplog.text == ""


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_card_in_the_folder_is_kept(hub: Hub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    folder = written(tmp_path / "mine")
    (folder / "README.md").write_text("Mine.")
    api.push(str(folder), "hf://acme/mine")
    assert card_of(hub, "acme/mine") == "Mine."


def card_of(hub: Hub, name: str) -> str:
    found = hub.repositories[name]
    return found.commits[found.branches["main"]]["README.md"].decode()


def test_search_asks_the_hub(hub: Hub) -> None:
    hub.add("acme/style-2", PEFT, tags=("peft", "base_model:adapter:acme/base", "license:mit"))
    hub.add("other/style", PEFT)
    hub.add("acme/style-full", PEFT, tags=())
    found = of("hf").search(parse("hf://acme"), ["style"])
    assert [one.reference for one in found] == ["hf://acme/style", "hf://acme/style-2"]
    assert found[1].annotations[terms.BASE_MODEL] == "acme/base"


def test_an_endpoint_without_tls_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example.com")
    with pytest.raises(RegistryError, match="not encrypted"):
        of("hf").pull(parse("hf://acme/style"), store)
