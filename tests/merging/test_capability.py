"""What a method says of merging is what merging does."""

from __future__ import annotations

from pathlib import Path

import pytest

import adaptr
import tiny
from adaptr import plugins
from adaptr.cli import catalogue
from adaptr.errors import NotMergeable, TargetNotFound
from adaptr.testing import Laws, shaken


def made(name: str, out: Path) -> adaptr.Adapter:
    """An adapter that does something, and its base in `out`: one with biases where the method is of these."""
    laws = type("Of", (Laws,), {"method": name})()
    for architecture in ("llama", "gpt2", "t5", "bert", "resnet"):
        model = tiny.model(architecture)
        try:
            found = laws.fresh(model)
        except TargetNotFound:
            continue
        model.save_pretrained(out)
        return found if found.parts else shaken(found)  # parts are as they were given
    raise AssertionError(f"no model for `{name}`")


@pytest.mark.parametrize("name", plugins.names())
def test_a_method_says_whether_what_it_makes_can_be_merged(name: str, tmp_path: Path) -> None:
    adapter, method = made(name, tmp_path / "base"), plugins.method(name)
    adaptr.save(adapter, tmp_path / "a.safetensors")
    try:
        adaptr.merge(tmp_path / "base", [tmp_path / "a.safetensors"], tmp_path / "merged", tied="untie", receipt=False)
        merges = True
    except NotMergeable:
        merges = False
    assert method.merges(method.config(adapter.config)) == merges
    card = catalogue.card(name)
    assert card.conditional or card.mergeable == merges
