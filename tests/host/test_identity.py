"""What a fresh adapter says of its base."""

from pathlib import Path

import pytest

import adaptr
import tiny


def _named(model, name: str):
    model.config._name_or_path = name
    return adaptr.create(model, "lora", ["attn.q"]).base.id


def test_the_place_of_a_folder_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    model = tiny.model("llama")
    assert _named(model, str(tmp_path / "base")) == _named(model, "base") == _named(model, "./base") == "base"


def test_a_name_of_a_hub_stays() -> None:
    assert _named(tiny.model("llama"), "org/model") == "org/model"


def test_a_model_made_in_memory_has_no_name() -> None:
    """Not that of the folder in which it was made."""
    assert _named(tiny.model("llama"), "") == ""
