"""Rates of a tensor's own, by its letter: LoRA+ and the like, for any method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import adaptr
import tiny
from adaptr.errors import BadConfig
from adaptr.training.rates import rated

SMALL: dict[str, Any] = {"steps": 2, "rate": 0.01, "config": {"r": 4}, "samples": 0}


@pytest.mark.parametrize(("method", "letter"), [("lora", "B"), ("dora", "m"), ("ia3", "l")])
def test_a_letter_has_a_multiple_of_the_rate(method: str, letter: str) -> None:
    model = tiny.model("llama")
    with adaptr.train(model, adaptr.create(model, method)) as session:
        groups = rated(session, {letter: 16.0})
        names = {id(p): key for key, p in session.named().items()}
        rates = {names[id(p)]: group.rate for group in groups for p in group.params}
    assert rates.keys() == set(names.values())
    assert all(rate == (16.0 if key.endswith(f":{letter}") else 1.0) for key, rate in rates.items())


def test_without_rates_the_groups_are_the_methods() -> None:
    model = tiny.model("llama")
    with adaptr.train(model, adaptr.create(model, "lora")) as session:
        (group,) = rated(session, {})
        assert list(group.params) == list(session.parameters())


def test_b_learns_faster_by_its_factor(base: Path, data: Path) -> None:
    plain, plus = (adaptr.fit(base, data, rates=rates, **SMALL).adapter for rates in ({}, {"B": 16.0}))
    size = {
        id(one): sum(float(t.abs().sum()) for key, t in one.tensors.items() if key.endswith(":B"))
        for one in (plain, plus)
    }
    assert size[id(plus)] > 8 * size[id(plain)]
    assert plus.training["recipe"]["rates"] == {"B": 16.0}


def test_a_letter_that_nothing_learns_is_refused(base: Path, data: Path) -> None:
    with pytest.raises(BadConfig, match="no tensor that learns is called `b`; there are A, B"):
        adaptr.fit(base, data, rates={"b": 2.0}, **SMALL)


@pytest.mark.parametrize("rates", [{"B": 0.0}, {"B": "fast"}, {"B": float("inf")}])
def test_a_factor_is_a_positive_number(base: Path, data: Path, rates: Any) -> None:
    with pytest.raises(BadConfig, match="`rates`"):
        adaptr.fit(base, data, rates=rates, **SMALL)
