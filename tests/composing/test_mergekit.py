"""mergekit's recipes of LoRAs: what they are here, what is said to be otherwise, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import adaptr
from adaptr.composing import recipe_file
from adaptr.errors import RecipeError
from composing.inputs import lora

HEAD = "merge_method: {method}\nbase_model: base\nmodels:\n  - model: base\n"
MODELS = "  - model: base+one.safetensors\n    parameters: {weight: 0.7}\n  - model: two.safetensors\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    adaptr.save(lora(1), tmp_path / "one.safetensors")
    adaptr.save(lora(2), tmp_path / "two.safetensors")
    return tmp_path


def recipe(folder: Path, text: str) -> Path:
    file = folder / "mergekit.yml"
    file.write_text(text)
    return file


def read(folder: Path, method: str, rest: str = "") -> recipe_file.Recipe:
    return recipe_file.read(recipe(folder, HEAD.format(method=method) + MODELS + rest))


def test_it_composes_what_the_same_words_compose_here(folder: Path) -> None:
    file = recipe(folder, HEAD.format(method="ties") + MODELS + "parameters: {density: 0.4, lambda: 0.5}\n")
    ours = [(folder / "one.safetensors", 0.7), folder / "two.safetensors"]
    made, wanted = adaptr.compose(file), adaptr.compose(ours, "ties", density=0.4, lam=0.5)
    assert all(torch.equal(made.adapter.tensors[key], tensor) for key, tensor in wanted.adapter.tensors.items())


@pytest.mark.parametrize(
    ("method", "parameters", "strategy", "config"),
    [
        ("linear", "{}", "linear", {}),
        ("task_arithmetic", "{lambda: 0.3}", "task-arithmetic", {"lam": 0.3}),
        ("ties", "{int8_mask: true}", "ties", {"density": 1.0}),
        ("dare_linear", "{density: 0.5}", "dare", {"density": 0.5}),
        ("della", "{density: 0.5, epsilon: 0.1}", "della", {"density": 0.5, "epsilon": 0.1}),
        ("breadcrumbs", "{density: 0.5, gamma: 0.25}", "breadcrumbs", {"beta": 0.25, "gamma": 0.75}),
        ("nuslerp", "{}", "slerp", {}),
    ],
)
def test_methods_and_their_parameters(
    folder: Path, method: str, parameters: str, strategy: str, config: dict[str, float]
) -> None:
    found = read(folder, method, f"parameters: {parameters}\n")
    assert (found.strategy, found.config) == (strategy, config)
    assert [one.weight for one in found.inputs] == [0.7, 1.0]
    assert found.normalize is (True if method == "linear" else None)


def test_filters_are_turned_round_as_the_last_that_fits_decides_here(folder: Path) -> None:
    weight = "    parameters: {weight: [{filter: mlp, value: [0, 1]}, {filter: attn, value: 2}]}\n"
    assert read(folder, "linear", weight).inputs[1].weight == {"*": 0.0, "*attn*": 2, "*mlp*": [0, 1]}


def test_slerp_goes_from_the_first_to_the_second(folder: Path) -> None:
    first, second = read(folder, "slerp", "parameters: {t: [0, 0.25]}\n").inputs
    assert (first.weight, second.weight) == ([1.0, 0.75], [0.0, 0.25])


def test_what_is_not_the_same_is_said(folder: Path) -> None:
    notes = read(folder, "dare_ties", "tokenizer_source: union\nparameters: {rescale: false}\n").notes
    assert [note.split("`")[1] for note in notes[:2]] == ["tokenizer_source", "rescale"]
    assert notes[2].startswith("not as mergekit does it: the mean of the values that agree")
    assert read(folder, "task_arithmetic").notes == ()


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("merge_method: passthrough\nmodels: []\n", 1, "`passthrough` has no way for adapters here"),
        ("merge_method: linear\nslices: []\n", 2, "`slices` takes layers from several models"),
        ("merge_method: linear\n", 1, "wants `models`"),
        ("merge_method: linear\nmodels:\n  - parameters: {}\n", 3, "wants `model`"),
        ("merge_method: linear\nmodells: []\n", 2, "no field `modells`; did you mean `models`"),
        ("merge_method: linear\nmodels: three\n", 1, "not of the sort that mergekit has there"),
        ("merge_method: linear\nmodels: [{model: a, parameters: 3}]\n", 1, "not of the sort that mergekit has there"),
        ("merge_method: linear\nmodels: [{model: a, parameters: {weight: x}}]\n", 1, "wanted a finite number"),
        (
            "merge_method: ties\nmodels:\n  - {model: one.safetensors, parameters: {density: 0.1}}\n"
            "  - {model: two.safetensors, parameters: {density: 0.2}}\n",
            3,
            "`density` differs between models",
        ),
    ],
)
def test_what_is_refused_names_the_line(folder: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(RecipeError, match=rf"line {line}: ") as refused:
        recipe_file.read(recipe(folder, text))
    assert said in str(refused.value)
