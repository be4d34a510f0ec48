"""Recipes as YAML files: what they may say, and errors with the line."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from adaptr.errors import InputError, RecipeError
from adaptr.training import recipe_file
from adaptr.training.fields import fields
from adaptr.training.schema import schema

GOOD = """\
base: ./model
data: rows.jsonl
method: lora
config: {r: 8}
targets: [attn.q, attn.v]
map: {prompt: question}
rate: 1.0e-3
steps: 10
valid: 5%
eval_every: 5
"""


def written(folder: Path, text: str) -> Path:
    (folder / "rows.jsonl").write_text("")
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text('{"model_type": "llama"}')
    file = folder / "recipe.yaml"
    file.write_text(text)
    return file


def test_each_field_is_read_and_files_are_meant_from_its_folder(tmp_path: Path) -> None:
    found = recipe_file.read(written(tmp_path, GOOD))
    assert found.base == str(tmp_path / "model")
    assert found.data == str(tmp_path / "rows.jsonl")
    assert (found.config, found.targets, found.map) == ({"r": 8}, ("attn.q", "attn.v"), {"prompt": "question"})
    assert (found.rate, found.steps, found.valid) == (1e-3, 10, "5%")


def test_a_rate_is_written_as_people_write_it(tmp_path: Path) -> None:
    assert recipe_file.read(written(tmp_path, GOOD.replace("1.0e-3", "2e-4"))).rate == 2e-4


@pytest.mark.parametrize("data", ["hf://org/name", "org/name", "-", __file__])
def test_what_is_no_file_beside_it_is_what_it_says(tmp_path: Path, data: str) -> None:
    assert recipe_file.read(written(tmp_path, GOOD.replace("rows.jsonl", f'"{data}"'))).data == data


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("steps: 10", "stps: 10", 8, "did you mean `steps`"),
        ("steps: 10", "steps: ten", 8, "whole number"),
        ("steps: 10", "steps: 0", 8, "at least 1"),
        ("steps: 10", "steps: 1.5", 8, "whole number"),
        ("steps: 10", "steps: true", 8, "whole number"),
        ("rate: 1.0e-3", "rate: -1", 7, "more than 0"),
        ("rate: 1.0e-3", "rate: .inf", 7, "finite"),
        ("rate: 1.0e-3", "rate: 1e", 7, "a number"),
        ("method: lora", "method: lorra", 3, "lorra"),
        ("method: lora", "method: [lora]", 3, "a text"),
        ("config: {r: 8}", "config: {rank: 8}", 4, "no field `rank`"),
        ("config: {r: 8}", "config: {r: many}", 4, "`r`"),
        ("config: {r: 8}", "config: r", 4, "a mapping"),
        ("targets: [attn.q, attn.v]", "targets: [1, 2]", 5, "a list of texts"),
        ("map: {prompt: question}", "map: {prompt: 1}", 6, "texts"),
        ("eval_every: 5", "schedule: up", 10, "one of linear"),
        ("eval_every: 5", "seed: -1", 10, "at least 0"),
        ("eval_every: 5", "eval_every: 5\nrate: 1", 11, "twice"),
        ("eval_every: 5", "double_quant: true", 10, "nf4"),
        ("eval_every: 5", "pack: true\ntask: classify", 10, "only texts"),
        ("valid: 5%\n", "", 9, "`valid`"),
        ("eval_every: 5", "adapter: a.safetensors", 10, "go on from one"),
        ("data: rows.jsonl\n", "", 1, "`data` is missing"),
        ("data: rows.jsonl", "data: rowz.jsonl", 2, "there is no `rowz.jsonl`"),
        ("base: ./model", "base: ./modell", 1, "modell"),
        ("valid: 5%", "valid: held.jsonl", 9, "there is no `held.jsonl`"),
        ("eval_every: 5", "adapter: /nowhere/a.safetensors\nsecond: s.txt", 10, "go on from one"),
        ("base: ./model", "base: !!python/name:os.system x", 1, "tag"),
        ("base: ./model", "base: [", 3, "no YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    with pytest.raises(RecipeError, match=f"line {line}: ") as caught:
        recipe_file.read(written(tmp_path, GOOD.replace(old, new)), look=True)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "just text", "base: \udcff"])
def test_what_is_no_recipe(tmp_path: Path, text: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError):
        recipe_file.read(file)


def test_what_is_empty_is_told_by_some_of_what_it_wants(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("")
    with pytest.raises(RecipeError, match=r"a recipe must be a mapping with base, data, .* and \d+ more$"):
        recipe_file.read(file)


def test_the_schema_takes_what_the_reader_takes_and_refuses_what_it_refuses() -> None:
    known = schema()
    jsonschema.Draft202012Validator.check_schema(known)
    good = {"base": "b", "data": "d", "targets": ["attn.q"], "config": {"r": 8}, "rate": 1e-3, "valid": None}
    jsonschema.validate(good, known)
    for name, value in (("rate", 0), ("steps", 0), ("schedule", "up"), ("nothing", 1), ("map", {"a": 1})):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, name: value}, known)


def test_every_field_says_what_it_is() -> None:
    assert all(field.help.endswith((".", "`.")) for field in fields().values())
    assert json.loads(json.dumps(schema()))["properties"].keys() == fields().keys()
