"""From the Hub to a merged model by command line: pulled, checked, merged, and the same bytes as by paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adaptr import api
from adaptr.format import digest
from adaptr.registry import terms
from adaptr.registry.store import Store
from cli.conftest import Ran
from registry.servers.hub import fake_hub, meant
from registry.servers.repositories import Hub


@pytest.fixture
def hub(llama: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with a base model, as transformers saves it, and an adapter, as PEFT saves it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "adaptr"))
    api.convert(lora, tmp_path / "peft", "peft", base=llama)
    with fake_hub() as made:
        meant(made, monkeypatch)
        for name, folder in (("acme/base", llama), ("acme/style", tmp_path / "peft")):
            files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
            made.add(name, {**files, ".gitattributes": b"", "pytorch_model.bin": b"\x80\x04."})
        yield made


def test_merging_what_is_on_the_hub(
    hub: Hub, llama: Path, lora: Path, tmp_path: Path, adaptr: Callable[..., Ran]
) -> None:
    ran = adaptr("merge", "hf://acme/base", "hf://acme/style=0.5", "-o", tmp_path / "out", "--json")
    assert (ran.code, ran.json["targets"]) == (0, 4)
    api.merge(llama, [(lora, 0.5)], tmp_path / "by-path")
    weights = "model.safetensors"
    assert digest.of_file(tmp_path / "out" / weights) == digest.of_file(tmp_path / "by-path" / weights)
    assert {file.name for file in llama.iterdir()} <= {file.name for file in (tmp_path / "out").iterdir()}
    assert hub.asked("pytorch_model.bin") == []
    kinds = {entry.name: entry.annotations[terms.KIND] for entry in Store.default().names()}
    assert kinds == {"hf/acme/base:latest": "model", "hf/acme/style:latest": "adapter"}


def test_again_without_the_hub(hub: Hub, tmp_path: Path, adaptr: Callable[..., Ran]) -> None:
    for name in ("base", "style"):
        assert adaptr("pull", f"hf://acme/{name}", "--lock").code == 0
    hub.log.clear()
    assert adaptr("merge", "hf://acme/base", "hf://acme/style", "-o", tmp_path / "out").code == 0
    assert hub.log == []


def test_what_is_said_of_failures(hub: Hub, adaptr: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    hub.add("acme/secret", {}, private=True)
    assert adaptr("pull", "hf://acme/secret", "--json").refused == (6, "AuthError")
    said = adaptr("pull", "hf://acme/secret", "-v")
    assert "HF_TOKEN" in said.err
    assert "canary" not in said.err + said.out
    hub.fault = "corrupt"
    assert adaptr("pull", "hf://acme/style", "--json").refused == (7, "DigestMismatch")
    hub.add("acme/pickled", {"pytorch_model.bin": b"\x80\x04."})
    assert adaptr("pull", "hf://acme/pickled", "--json").refused == (3, "UnsafePickle")


def test_search_and_info_as_text(hub: Hub, adaptr: Callable[..., Ran]) -> None:
    assert "hf://acme/style" in adaptr("search", "style", "--in", "hf://").out
    assert "nothing in the store" in adaptr("search", "style").out
    assert "lora" in adaptr("info", "hf://acme/style").out
