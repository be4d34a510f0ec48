"""An adapter of another base is refused: told by its weights, else by structure, else by name, unless it is said."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import checkpoints as c
from adaptr import Adapter, Base, api
from adaptr.artifacts import handling
from adaptr.checkpoint.open import open_checkpoint
from adaptr.errors import ContentMismatch, WrongBase
from adaptr.models.belonging import require_base

OTHER = "meta-llama/Llama-3.2-1B"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base `tiny`, and a LoRA for it as PEFT writes one: nothing of its base is known but the name."""
    folder = tmp_path_factory.mktemp("here")
    c.saved("llama", folder / "tiny")
    named(folder, "tiny", folder / "style")
    return folder


def named(here: Path, name: str | None, out: Path) -> Path:
    api.convert(save(c.randomised(here / "tiny").replace(base=Base()), out), out, "peft")
    config = json.loads((out / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": name}))
    return out


def save(adapter: Adapter, beside: Path) -> Path:
    file = beside.with_suffix(".safetensors")
    api.save(adapter, file)
    return file


def merged(base: Path, adapter: Any, out: Path, **more: Any) -> Any:
    return api.merge(base, [adapter], out, **more).compared[0]


@pytest.mark.parametrize(
    "name", [OTHER, "another", "/models/another", "acme/tiny-large", "acme/tin", "other/models--acme--large", "TINY2/"]
)
def test_another_name_is_refused_unless_said(here: Path, tmp_path: Path, name: str) -> None:
    adapter = named(here, name, tmp_path / "a")
    base = shutil.copytree(here / "tiny", tmp_path / "my-tiny")
    with pytest.raises(WrongBase, match="any_base=True") as refused:
        merged(base, adapter, tmp_path / "out")
    assert f"`{name}`" in str(refused.value)
    assert "`my-tiny`" in str(refused.value)
    assert not (tmp_path / "out").exists()
    found = merged(base, adapter, tmp_path / "out", any_base=True)
    assert (found.content, found.structure, found.name) == ("unknown", "unknown", "differs")
    with pytest.raises(WrongBase, match="any_base=True"):
        api.verify(tmp_path / "out", base, [adapter])
    assert api.verify(tmp_path / "out", base, [adapter], any_base=True).exact
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)


@pytest.mark.parametrize(
    "name",
    [
        "tiny",
        "acme/tiny",
        "acme/Tiny",
        "/somewhere/else/tiny",
        "./tiny/",
        "C:\\models\\tiny",
        "x/models--a--tiny/snapshots/0",
    ],
)
def test_the_same_name_is_the_same_base(here: Path, tmp_path: Path, name: str) -> None:
    assert merged(here / "tiny", named(here, name, tmp_path / "a"), tmp_path / "out").name == "equal"


@pytest.mark.parametrize("name", [None, "", ".", "./"])
def test_without_a_name_nothing_is_known(here: Path, tmp_path: Path, name: str | None) -> None:
    found = merged(here / "tiny", named(here, name, tmp_path / "a"), tmp_path / "out")
    assert (found.name, found.words.endswith(": nothing known of its base")) == ("unknown", True)


@pytest.mark.parametrize("sign", ["_", "__", "-", "--"])
def test_a_folder_may_have_the_owner_in_its_name(here: Path, tmp_path: Path, sign: str) -> None:
    """As tools that download a repository into a folder call it."""
    base = shutil.copytree(here / "tiny", tmp_path / f"acme{sign}Large")
    assert merged(base, named(here, "Acme/large", tmp_path / "a"), tmp_path / "out").name == "equal"
    with pytest.raises(WrongBase):
        merged(base, named(here, "other/large", tmp_path / "b"), tmp_path / "no")


@pytest.mark.parametrize("form", ["-bnb-4bit", "-unsloth-bnb-4bit", "-GPTQ", "-AWQ", "-4bit"])
def test_a_quantised_form_of_the_base_is_said(here: Path, tmp_path: Path, form: str) -> None:
    """QLoRA's trainers name what they loaded; what it is merged into is the model itself."""
    found = merged(here / "tiny", named(here, f"unsloth/tiny{form}", tmp_path / "a"), tmp_path / "out")
    assert found.name == "quantised form"
    assert found.words.endswith(f"names `unsloth/tiny{form}`, a quantised form of this base, by name alone")
    with pytest.raises(WrongBase):
        merged(here / "tiny", named(here, f"unsloth/small{form}", tmp_path / "b"), tmp_path / "no")


def test_a_folder_may_have_a_short_form_of_the_name(here: Path, tmp_path: Path) -> None:
    base = shutil.copytree(here / "tiny", tmp_path / "llama")
    found = merged(base, named(here, OTHER, tmp_path / "a"), tmp_path / "out")
    assert found.words.endswith("by a short form of the name alone")
    for other in ("Llama-3.2", "llama-3.2-1b-instruct", "l", "ama"):
        with pytest.raises(WrongBase):
            merged(base.rename(tmp_path / other), tmp_path / "a", tmp_path / "out2")
        base = (tmp_path / other).rename(tmp_path / "llama")


def test_where_the_weights_are_the_same_the_name_does_not_matter(here: Path, tmp_path: Path) -> None:
    adapter = c.randomised(here / "tiny")
    adapter = adapter.replace(base=Base(id=OTHER, content=adapter.base.content))
    found = merged(here / "tiny", adapter, tmp_path / "out")
    assert (found.content, found.words.partition(": ")[2]) == ("equal", "the weights that it was trained on")


def test_where_the_structure_is_the_same_the_name_does_not_matter(here: Path, tmp_path: Path) -> None:
    adapter = c.randomised(here / "tiny")
    adapter = adapter.replace(base=Base(id=OTHER, structure=adapter.base.structure))
    assert merged(here / "tiny", adapter, tmp_path / "out").structure == "equal"
    with pytest.raises(WrongBase, match="any_base=True"):
        merged(here / "tiny", adapter.replace(base=Base(id=OTHER, structure="sha256:0")), tmp_path / "out2")


def test_other_weights_are_refused_whatever_the_name_unless_said(here: Path, tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "tiny", seed=5)
    adapter = c.randomised(here / "tiny")
    adapter = adapter.replace(base=dataclasses.replace(adapter.base, id="tiny"))
    with pytest.raises(ContentMismatch):
        merged(base, adapter, tmp_path / "out")
    found = merged(base, adapter, tmp_path / "out", any_base=True)
    assert (found.content, found.name) == ("differs", "equal")


def test_a_bare_file_is_called_as_its_folder(here: Path, tmp_path: Path) -> None:
    file = here / "tiny/model.safetensors"
    assert merged(file, here / "style", tmp_path / "out").name == "equal"
    with pytest.raises(WrongBase):
        merged(file, named(here, OTHER, tmp_path / "a"), tmp_path / "out2")


def test_a_folder_in_the_hubs_cache_is_called_as_its_repository(here: Path, tmp_path: Path) -> None:
    repo = tmp_path / "hub/models--meta-llama--Llama-3.2-1B"
    base = shutil.copytree(here / "tiny", repo / "snapshots" / ("0" * 40))
    assert merged(base, named(here, OTHER, tmp_path / "a"), tmp_path / "out").name == "equal"
    with pytest.raises(WrongBase, match=r"this one is `meta-llama/Llama-3\.2-1B`"):
        merged(base, here / "style", tmp_path / "no")


def test_a_base_says_its_own_name(here: Path, tmp_path: Path) -> None:
    base = shutil.copytree(here / "tiny", tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "_name_or_path": OTHER}))
    assert merged(base, named(here, OTHER, tmp_path / "a"), tmp_path / "out").name == "equal"


def test_a_base_in_the_store_is_called_as_it_was_pulled_or_tagged(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    handling.tag(str(here / "tiny"), "tiny:1")
    assert merged("tiny:1", here / "style", tmp_path / "out").name == "equal"
    with pytest.raises(WrongBase, match="this one is `tiny`"):
        merged("tiny:1", named(here, OTHER, tmp_path / "a"), tmp_path / "out2")


def test_the_first_of_several_that_does_not_belong_is_named(here: Path, tmp_path: Path) -> None:
    other = c.randomised(here / "tiny", seed=7).replace(base=Base(id=OTHER), name="seven")
    with pytest.raises(WrongBase, match="`seven` names"):
        api.merge(here / "tiny", [here / "style", (other, 0.5)], tmp_path / "out")


def test_parts_are_compared_by_their_own_weights(here: Path) -> None:
    """A stack is of one base if all in it are."""
    model = c.model_of(here / "tiny")
    parts = {"a": c.randomised(here / "tiny", seed=1), "b": c.randomised(here / "tiny", seed=2)}
    stack = api.create(model, "stack", children=parts)
    known = require_base(open_checkpoint(here / "tiny"), [stack.replace(base=Base(id=OTHER))], False)
    assert known[0].content == "equal"
