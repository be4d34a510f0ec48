"""Bounds of what a configuration or a file may say: nothing, negative or beside the weight is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import BadConfig, InputError
from adaptr.testing import shaken


@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("adalora", {"begun": -1}),
        ("eva", {"r": 0}),
        ("eva", {"r": -3}),
        ("eva", {"rho": -1.0}),
        ("frod", {"at": -1}),
        ("ladder", {"groups": 0}),
        ("ladder", {"reduction": 0}),
        ("psoft", {"r": 4, "terms": -1}),
        ("shira", {"r": 0}),
        ("shira", {"n": -1}),
        ("tinylora", {"group": -1}),
        ("unilora", {"r": -1}),
        ("unilora", {"seed": -1}),
        ("velora", {"groups": 0}),
    ],
)
def test_values_below_the_least_are_refused(method: str, config: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match=f"`{[*config][-1]}` is .*, wanted at least"):
        adaptr.create(tiny.model("llama"), method, **config)


@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("olora", {"r": "x"}),
        ("mpt", {"frozen": 1}),
        ("prompt", {"ids": None}),
        ("ladder", {"reduction": []}),
        ("shira", {"n": "x"}),
        ("supertuning", {"sparsity": 1e308}),
        ("supertuning", {"sparsity": -1.0}),
    ],
)
def test_what_is_no_such_value_is_refused_before_it_is_computed_with(method: str, config: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match=f"`{next(iter(config))}`.* is .*wanted"):
        adaptr.create(tiny.model("llama"), method, **config)


@pytest.mark.parametrize("by", [-1, 10**6])
def test_places_outside_of_the_weight_are_refused(by: int) -> None:
    """Python counts negative ones from the end: they would be other weights than were meant."""
    model = tiny.model("llama")
    adapter = shaken(adaptr.create(model, "supertuning", sparsity=0.9))
    key = next(key for key in adapter.tensors if key.endswith(":i"))
    places = adapter.tensors[key]
    moved = adapter.replace(tensors={**adapter.tensors, key: places - places.min() + by})
    with torch.no_grad(), adaptr.attach(model, moved), pytest.raises(InputError, match="out of range"):
        model(**tiny.inputs("llama"))


@pytest.mark.parametrize("by", [-1, 10**6, None])
def test_frod_has_each_place_once(by: int | None) -> None:
    """A place that is there twice would count once in a merged weight, and twice beside it."""
    model = tiny.model("llama")
    adapter = shaken(adaptr.create(model, "frod", rate=0.1))
    (key,) = (key for key in adapter.tensors if key.endswith(":i"))
    places = torch.zeros_like(adapter.tensors[key]) if by is None else adapter.tensors[key] + by * 10**3
    moved = adapter.replace(tensors={**adapter.tensors, key: places})
    with torch.no_grad(), adaptr.attach(model, moved), pytest.raises(InputError, match="out of range"):
        model(**tiny.inputs("llama"))


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("lora", {"r": 10**12}),
        ("houlsby", {"m": 10**12}),
        ("prefix", {"tokens": 10**12}),
        ("vera", {"r": 10**12}),
        ("randlora", {"r": 10**12}),
        ("unilora", {"r": 10**12}),
        ("unilora", {"d": 10**13}),
        ("loftq", {"times": 100000}),
        ("lq-lora", {"times": 100000}),
    ],
)
def test_what_no_machine_holds_or_waits_for_is_refused_before_it_is_tried(method: str, values: dict[str, int]) -> None:
    with pytest.raises(BadConfig, match="at most"):
        adaptr.create(tiny.model("llama"), method, **values)


def test_eva_has_no_more_directions_than_inputs() -> None:
    made = adaptr.create(tiny.model("llama"), "eva", ["attn.q"], rho=1e30)
    assert {tuple(made.tensors[f"{path}:A"].shape) for path in made.targets} == {(tiny.WIDTH, tiny.WIDTH)}


@pytest.mark.parametrize(
    ("method", "values"),
    [("unilora", {"offset": 10**6}), ("unilora", {"r": 64}), ("frod", {"at": 10**6}), ("frod", {"first": 10**6})],
)
def test_places_past_the_end_are_refused(method: str, values: dict[str, int]) -> None:
    model = tiny.model("llama")
    made = adaptr.create(model, method)
    path, target = next(iter(made.targets.items()))
    wrong = {**made.targets, path: dataclasses.replace(target, config={**target.config, **values})}
    with pytest.raises(BadConfig, match="at most"):
        adaptr.attach(model, made.replace(targets=wrong))
