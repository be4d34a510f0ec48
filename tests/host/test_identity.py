"""What a fresh adapter says of its base."""

from pathlib import Path

import pytest

import adaptr
import tiny


def _named(model, name: str):
    model.config._name_or_path = name
    return adaptr.create(model, "lora", ["attn.q"]).base.id


def test_neither_the_place_nor_the_name_of_a_folder_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    model = tiny.model("llama")
    for said in (str(tmp_path / "base"), "base", "./base", "~/base", "../base", r"C:\models\base", r"runs\base"):
        assert _named(model, said) == ""


def test_a_copy_in_the_hubs_cache_has_the_hubs_name() -> None:
    cached = "/somewhere/hub/models--org--model/snapshots/0123"
    assert _named(tiny.model("llama"), cached) == "org/model"


def test_a_name_of_a_hub_stays() -> None:
    assert _named(tiny.model("llama"), "org/model") == "org/model"


def test_a_model_made_in_memory_has_no_name() -> None:
    """Not that of the folder in which it was made."""
    assert _named(tiny.model("llama"), "") == ""
