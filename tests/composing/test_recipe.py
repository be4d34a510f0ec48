"""Recipe files: what they give, and the line of what is wrong in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import adaptr
from adaptr import strategies
from adaptr.composing import recipe_file
from adaptr.errors import InputError, OutputExists, RecipeError, UsageError
from adaptr.strategies.base import Combination, Operators, Place, Weights
from composing.inputs import lora
from foreign.test_formats import Point

GOOD = """\
strategy: ties
config:
  density: 0.4
rank: 3
seed: 7
name: mixed
inputs:
  - adapter: one.safetensors
    weight: 0.7
  - adapter: sub/two.safetensors
    weight: {"*": 0.3, "*.mlp.*": [0, 1]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    adaptr.save(lora(1), tmp_path / "one.safetensors")
    adaptr.save(lora(2), tmp_path / "sub" / "two.safetensors")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_recipe_is_the_call_it_stands_for(folder: Path) -> None:
    made = adaptr.compose(written(folder, GOOD), out=folder / "x")
    two = (folder / "sub" / "two.safetensors", {"*": 0.3, "*.mlp.*": [0, 1]})
    pairs = [(folder / "one.safetensors", 0.7), two]
    adaptr.compose(pairs, "ties", folder / "y", density=0.4, rank=3, seed=7, name="mixed")
    assert (folder / "x").read_bytes() == (folder / "y").read_bytes()
    assert made.adapter.name == "mixed"
    adaptr.compose(folder / "recipe.yaml", out=folder / "z")
    assert (folder / "x").read_bytes() == (folder / "z").read_bytes()


def test_a_digest_is_held(folder: Path) -> None:
    report = adaptr.compose([folder / "one.safetensors"]).report
    digest = report.inputs[0]["digest"]
    text = f"inputs:\n  - adapter: one.safetensors\n    digest: {digest}\n"
    adaptr.compose(written(folder, text))
    with pytest.raises(UsageError, match="the recipe wants sha256:00"):
        adaptr.compose(written(folder, text.replace(digest, "sha256:00")))


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("strategy: ties", "strategy: tise", 1, "did you mean `ties`"),
        ("strategy: ties", "stratgy: ties", 1, "did you mean `strategy`"),
        ("density: 0.4", "density: 1.4", 3, "`density` is 1.4"),
        ("density: 0.4", "densty: 0.4", 3, "no field `densty`"),
        ("density: 0.4", "density: much", 3, "wanted float"),
        ("rank: 3", "rank: 0", 4, "rank is 0"),
        ("rank: 3", "rank: three", 4, "`rank` is `'three'`, wanted int"),
        ("rank: 3", "rank: true", 4, "wanted int"),
        ("rank: 3", "energy: 2", 4, "energy is 2"),
        ("rank: 3", "replaced: best", 4, "`replaced` is `best`"),
        ("seed: 7", "rank: 3", 5, "`rank` is there twice"),
        ("seed: 7", "seed: [7", 6, "no YAML"),
        ("seed: 7", "seed: !!python/object/apply:os.getcwd []", 5, "can't be read"),
        ("weight: 0.7", "weight: heavy", 9, "wanted a finite number"),
        ("weight: 0.7", "weight: .nan", 9, "wanted a finite number"),
        ("weight: 0.7", "weight: []", 9, "gradient of `one.safetensors` is empty"),
        ("weight: 0.7", "wight: 0.7", 9, "did you mean `weight`"),
        ("adapter: one.safetensors", "digest: x", 8, "an input wants `adapter`"),
        ("inputs:", "input:", 7, "did you mean `inputs`"),
    ],
)
def test_errors_name_the_line(folder: Path, old: str, new: str, line: int, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_file.read(written(folder, GOOD.replace(old, new, 1)))
    assert f"line {line}:" in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "7", "inputs: []", "inputs: {}", "strategy: linear", "a: &a [*a]", "\t"])
def test_what_is_no_recipe_at_all(folder: Path, text: str) -> None:
    with pytest.raises(RecipeError, match="line 1"):
        recipe_file.read(written(folder, text))


def test_files_that_are_no_text(folder: Path) -> None:
    path = folder / "recipe.yaml"
    path.write_bytes(b"strategy: linear\nname: \xff\n")
    with pytest.raises(RecipeError, match="line 2: not UTF-8"):
        recipe_file.read(path)
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(InputError, match="longer than"):
        recipe_file.read(path)
    with pytest.raises(InputError, match="no file"):
        recipe_file.read(folder / "none.yaml")


def test_deep_and_repeated_structures_end_soon(folder: Path) -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    for text in ("[" * 5000, "name: " + "[" * 5000, bomb, f"inputs: {'{a: ' * 3000}"):
        with pytest.raises(RecipeError):
            recipe_file.read(written(folder, text))


@pytest.mark.parametrize(("strategy", "field"), [("regmean", "grams"), ("lorahub", "data")])
def test_the_files_of_a_strategy_are_meant_from_the_recipes_folder(folder: Path, strategy: str, field: str) -> None:
    text = f"strategy: {strategy}\nconfig: {{{field}: sub/file}}\n{GOOD[GOOD.index('inputs') :]}"
    assert recipe_file.read(written(folder, text)).config == {field: str(folder / "sub" / "file")}
    whole = text.replace("sub/file", str(folder / "file"))
    assert recipe_file.read(written(folder, whole)).config == {field: str(folder / "file")}


def test_a_recipe_with_files_is_carried_out_wherever_it_is_called_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {f"{path}:{n}": torch.eye(target.shape[-1]) for n in (0, 1) for path, target in lora(n + 1).targets.items()}
    save_file(rows, folder / "grams.safetensors")
    text = "strategy: regmean\nconfig: {grams: grams.safetensors}\ninputs:\n  - adapter: one.safetensors\n"
    written(folder, text + "  - adapter: sub/two.safetensors\n")
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    made = adaptr.compose("../recipe.yaml", out="made.safetensors")
    monkeypatch.chdir(folder)
    assert made.adapter.lineage == adaptr.compose("recipe.yaml").adapter.lineage
    assert made.adapter.lineage["arguments"]["config"]["grams"].startswith("sha256:")


def test_no_output_replaces_a_file_that_the_strategy_reads(folder: Path) -> None:
    grams = folder / "grams.safetensors"
    grams.write_bytes(b"numbers")
    pair = [folder / "one.safetensors", folder / "sub" / "two.safetensors"]
    with pytest.raises(OutputExists):
        adaptr.compose(pair, "regmean", grams, grams=str(grams), force=True)
    assert grams.read_bytes() == b"numbers"


def test_a_text_that_is_no_file_for_the_strategy_is_said_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lies where it is called from."""
    monkeypatch.chdir(folder)
    (folder / "magnitude").write_text("a file that is called as a value is")

    @dataclass(frozen=True)
    class Config:
        by: str = "magnitude"

    class Chosen(Combination[Config]):
        name = "chosen"

        def coefficients(self, ops: Operators, weights: Weights, cfg: Config, place: Place) -> Weights:
            return weights

    monkeypatch.setattr("adaptr.discovery._points", lambda group: {"chosen": Point(Chosen)})
    strategies.get.cache_clear()
    made = adaptr.compose([folder / "one.safetensors"], "chosen", by="magnitude")
    strategies.get.cache_clear()
    assert made.adapter.lineage["arguments"]["config"] == {"by": "magnitude"}
