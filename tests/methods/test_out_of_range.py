"""Bounds of what a configuration or a file may say: nothing, negative or beside the weight is refused."""

from __future__ import annotations

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
