"""What other tools downloaded is found by its name on the Hub, without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import checkpoints
from adaptr import api
from adaptr.errors import InputError
from adaptr.files import hub_cache
from adaptr.sources.resolve import resolve


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the adapter `acme/style`; its one revision."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    revision = tmp_path / "hub" / "models--acme--style" / "snapshots" / ("a" * 40)
    revision.mkdir(parents=True)
    api.save(checkpoints.lora_at_q(), revision / "adapter.adaptr.safetensors")
    return revision


def test_an_adapter_of_the_cache_is_loaded_by_its_name(cache: Path) -> None:
    assert api.load("acme/style").method == "lora"
    assert resolve("acme/style").path == cache
    assert str(resolve("acme/style")) == "acme/style"


def test_a_path_of_that_name_goes_before(cache: Path, tmp_path: Path) -> None:
    shutil.copytree(cache, tmp_path / "acme" / "style")
    assert resolve("acme/style").path == Path("acme/style")


def test_with_a_policy_the_name_wants_its_scheme(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "policy.yaml").write_text("- {scope: 'hf://acme/*', keys: [acme.pub], mode: enforce}\n")
    with pytest.raises(InputError, match="hf://acme/style"):
        api.load("acme/style")


@pytest.mark.parametrize("name", ["acme/other", "acme", "../style", "acme/style/x", "./style"])
def test_what_is_not_there_or_no_such_name_is_a_path(name: str, cache: Path) -> None:
    assert resolve(name).place == Path(name)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hub_cache.folder() == tmp_path / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert hub_cache.folder() == tmp_path / "hf" / "hub"
