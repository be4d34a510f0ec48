"""Trainings over other adapters, and with some below: what `over` and `below` name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import adaptr
from adaptr.errors import BadConfig, NotPossible, RecipeError, UsageError
from adaptr.testing import logits, shaken
from adaptr.training.recipe_file import read

SMALL: dict[str, Any] = {"steps": 6, "rate": 0.02, "samples": 0}
IDS = torch.arange(7)[None] + 3


@pytest.fixture(scope="module")
def parts(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, model = tmp_path_factory.mktemp("parts"), AutoModelForCausalLM.from_pretrained(base)
    for n in (1, 2, 3):
        made = shaken(adaptr.create(model, "pfeiffer", m=4), n).replace(name=f"p{n}")
        adaptr.save(made, folder / f"p{n}.safetensors")
    return [str(folder / f"p{n}.safetensors") for n in (1, 2, 3)]


def test_a_fusion_is_trained_over_trained_adapters_which_stay(
    base: Path, data: Path, parts: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "f.safetensors"
    report = adaptr.fit(base, data, out, method="adapter-fusion", over=parts, **SMALL)
    assert report.after["loss"] < report.before["loss"]
    made = adaptr.load(out)
    assert list(made.parts) == ["p1", "p2", "p3"]
    for path, name in zip(parts, made.parts, strict=True):
        kept, given = made.part(name), adaptr.load(path)
        assert all(torch.equal(kept.tensors[key], t) for key, t in given.tensors.items())
    assert len(made.training["recipe"]["over"]) == 3
    assert not any(str(Path(one).parent) in str(made.training) for one in parts)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad(), adaptr.attach(model, made):
        said = [model.generate(IDS, max_new_tokens=6, use_cache=on) for on in (True, False)]
    assert torch.equal(*said)


def test_what_is_below_is_measured_and_stays_out_of_what_is_kept(
    base: Path, data: Path, parts: list[str], tmp_path: Path
) -> None:
    report = adaptr.fit(base, data, method="pfeiffer", config={"m": 4}, below=parts[:1], **SMALL)
    bare = adaptr.fit(base, data, method="pfeiffer", config={"m": 4}, **SMALL)
    assert report.before["loss"] != bare.before["loss"]
    assert not report.adapter.parts
    assert report.adapter.tensors.keys() == bare.adapter.tensors.keys()
    adaptr.save(report.adapter, tmp_path / "a.safetensors")
    last: dict[str, Any] = {"steps": 1, "rate": 1e-9, "samples": 0}
    again = adaptr.fit(base, data, adapter=tmp_path / "a.safetensors", below=parts[:1], **last)
    assert again.after["loss"] == pytest.approx(report.after["loss"], rel=1e-5)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad(), adaptr.attach(model, parts[0]), adaptr.attach(model, report.adapter):
        assert torch.isfinite(logits(model(IDS))).all()


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"method": "adapter-fusion"}, UsageError, "none was given; name them by `over`"),
        ({"method": "lora", "over": ["a"]}, UsageError, "made of no other adapters"),
        ({"method": "stack", "over": ["a"]}, UsageError, "made of no other adapters"),
        ({"method": "adapter-fusion", "over": ["a"], "targets": "ffn_out"}, UsageError, "leave `targets` out"),
        ({"method": "xlora", "over": ["a"]}, NotPossible, "adaptr gate train"),
        ({"adapter": "a", "over": ["a"]}, UsageError, "leave one of the two out"),
        ({"over": "a"}, BadConfig, "a list of texts"),
    ],
)
def test_what_has_no_meaning_is_refused(
    base: Path, data: Path, fields: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        adaptr.fit(base, data, **fields)


def test_two_of_one_name_are_refused(base: Path, data: Path, parts: list[str]) -> None:
    with pytest.raises(UsageError, match="are called `p1`"):
        adaptr.fit(base, data, method="adapter-fusion", over=[parts[0], parts[0]])


def test_a_recipe_means_them_from_its_folder(base: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"base: {base}\ndata: {data}\nmethod: adapter-fusion\nover: [a.safetensors]\nbelow: [./b]\n")
    assert read(recipe).over == (str(tmp_path / "a.safetensors"),)
    with pytest.raises(RecipeError, match="line 5: `below`: there is no"):
        read(recipe, look=True)
