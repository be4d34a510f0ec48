from __future__ import annotations

import pytest

from adaptr.composing.recipe import Input, Recipe
from adaptr.errors import BadConfig, UsageError
from adaptr.tuning.space import space
from adaptr.tuning.trial import starts, suggested

TWO = (Input("a", 1.0), Input("b", 0.5))


def test_weights_are_factors_of_those_given() -> None:
    found = space(Recipe(TWO), ["weights"])
    made = found.made({"weight 1": 0.5, "weight 2": 2.0})
    assert [one.weight for one in made.inputs] == [0.5, 1.0]


def test_fields_of_a_strategy_that_is_not_drawn_are_not() -> None:
    found = space(Recipe(TWO), ["weights", "density=0.1..0.9", "strategy=linear,ties"])
    names = [set(suggested(found, [], seed)) for seed in range(12)]
    assert {"strategy", "weight 1", "weight 2"} in names
    assert {"strategy", "weight 1", "weight 2", "density"} in names
    assert found.made({"strategy": "linear"}).config == {}


def test_the_first_trials_are_equal_given_and_each_alone() -> None:
    found = starts(space(Recipe((Input("a"), Input("b"))), ["weights"]), 2)
    assert [dict(t.values) for t in found] == [
        {"weight 1": 0.5, "weight 2": 0.5},
        {"weight 1": 1.0, "weight 2": 1.0},
        {"weight 1": 1.0, "weight 2": 0.0},
        {"weight 1": 0.0, "weight 2": 1.0},
    ]
    assert [t.called for t in found] == ["equal", "as given", "alone", "alone"]


def test_the_first_trials_of_a_density_are_its_default_once() -> None:
    found = starts(space(Recipe(TWO, "ties"), ["density"]), 2)
    assert [dict(t.values) for t in found] == [{"density": 0.2}, {}, {}]


@pytest.mark.parametrize(
    ("over", "called"),
    [
        (["weights"], "as given"),
        (["weights=-3..-2"], "near what was given"),
        (["density=0.1..0.3"], "as given"),
        (["weights", "density=0.5..0.9"], "near what was given"),
        (["weights", "rank=4,8"], "near what was given"),
        (["weights", "strategy=linear,dare"], "near what was given"),
    ],
)
def test_what_was_given_is_called_so_where_it_is_tried(over: list[str], called: str) -> None:
    strategy = "ties" if any("density" in one or "strategy" in one for one in over) else "linear"
    found = starts(space(Recipe((Input("a"), Input("b")), strategy), over), 2)
    assert [t.called for t in found if t.called != "alone"][-1] in (called, "equal")
    assert not any(t.called == "as given" for t in found) or called == "as given"


def test_what_is_tried_next_follows_from_what_was_and_the_seed() -> None:
    found = space(Recipe(TWO), ["weights", "rank=2,4,8"])
    assert suggested(found, [], 1) == suggested(found, [], 1)
    assert suggested(found, [], 1) != suggested(found, [], 2)


@pytest.mark.parametrize(
    ("over", "said"),
    [
        (["wieghts"], "did you mean `weights`"),
        (["density"], "no `density` to search in linear"),
        (["weights", "weights"], "twice"),
        (["rank"], "rank=4,8,16"),
        (["strategy"], "linear,ties"),
        (["weights=2..1"], "lower one first"),
        (["weights=a..b"], "LOW..HIGH"),
        (["rank=x"], "LOW..HIGH"),
        (["strategy=linear,nonsense"], "nonsense"),
        (["strategy=lorahub"], "lorahub"),
    ],
)
def test_what_can_not_be_searched_is_refused(over: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        space(Recipe(TWO), over)


def test_ends_that_the_strategy_would_refuse_are_refused_before_anything_is_measured() -> None:
    with pytest.raises(BadConfig, match="density"):
        space(Recipe(TWO, "ties"), ["density=0.5..2"])
    with pytest.raises(UsageError, match="rank"):
        space(Recipe(TWO), ["rank=0..4"])
