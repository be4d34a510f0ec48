"""What every strategy keeps: the same bytes for the same seed, measured errors that are the true ones, blocks that
don't matter, plugins that are found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptr import strategies
from adaptr.algebra.dense import Dense
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.discovery import Sort
from adaptr.errors import BadConfig, Unsupported, UsageError
from adaptr.strategies import elementwise, threshold
from adaptr.strategies.base import Place, Strategy
from adaptr.strategies.whole import Whole

TWO = {"slerp"}
DELTAS = sorted(
    n for n in strategies.names() if n not in {"regmean", "lorahub"} and not isinstance(strategies.get(n), Whole)
)
RANDOM = [n for n in DELTAS if strategies.get(n).random]


def ops(seed: int = 0, shape: tuple[int, int] = (20, 16), r: int = 3, count: int = 2) -> list[Operator]:
    g = torch.Generator().manual_seed(seed)
    return [LowRank(torch.randn(shape[0], r, generator=g), torch.randn(r, shape[1], generator=g)) for _ in range(count)]


def made(name: str, given: list[Operator], weights: list[float], seed: int = 0, **options: Any) -> Any:
    strategy = strategies.get(name)
    rank = options.pop("rank", 4 if strategy.rank_wanted else None)
    return strategy.make(given, weights, strategy.config(options), Place("here", seed), rank, None)


@pytest.mark.parametrize("name", DELTAS)
def test_the_same_on_every_run(name: str) -> None:
    first, second = (made(name, ops(), [0.6, 0.4]).operator.dense() for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", DELTAS)
@pytest.mark.parametrize("rank", [None, 2])
def test_measured_errors_are_the_true_ones(name: str, rank: int | None) -> None:
    given, weights = ops(1), [0.6, 0.4]
    strategy = strategies.get(name)
    cut = made(name, given, weights, rank=rank or (4 if strategy.rank_wanted else None))
    found = cut.operator.dense(torch.float64)
    plain = sum(w * op.dense(torch.float64) for op, w in zip(given, weights, strict=True))
    exact = strategy.combine(given, weights, strategy.config({}), Place("here")).dense(torch.float64)
    if rank:
        assert math.sqrt(cut.wrong / cut.size) == pytest.approx(float((found - exact).norm() / exact.norm()), abs=2e-6)
    if cut.plain:
        assert math.sqrt(cut.apart / cut.plain) == pytest.approx(float((found - plain).norm() / plain.norm()), abs=2e-4)
    else:
        assert strategy.linear
        torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", RANDOM)
def test_seeds_and_inputs_have_streams_of_their_own(name: str) -> None:
    given = ops(2)
    first, other = (made(name, given, [1.0, 1.0], seed=s).operator.dense() for s in (0, 1))
    assert not torch.equal(first, other)
    strategy = strategies.get(name)
    alone = strategy.make(given[1:], [1.0], strategy.config({}), Place("here", 0, (1,)), None, None).operator.dense()
    both = made(name, [Dense(torch.zeros(20, 16)), given[1]], [1.0, 1.0]).operator.dense()
    assert torch.equal(alone, both)  # a missing first input does not shift the second one's stream


@pytest.mark.parametrize("name", [n for n in DELTAS if strategies.get(n).space == "elements"])
def test_blocks_don_t_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(name, [Dense(op.dense()) for op in ops(3)], [0.5, 0.5]).operator.dense()
    monkeypatch.setattr(elementwise, "BLOCK", 3 * 16)
    parts = made(name, [Dense(op.dense()) for op in ops(3)], [0.5, 0.5]).operator.dense()
    assert torch.equal(whole, parts)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_threshold_is_the_kth_largest(data: st.DataObject) -> None:
    rows, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 5))
    number = st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 1.0, -1.0]))
    values = data.draw(st.lists(number, min_size=rows * width, max_size=rows * width))
    k = data.draw(st.integers(1, rows * width))
    D = torch.tensor(values).view(rows, width)
    want = float(D.abs().flatten().sort(descending=True).values[k - 1])
    # a sample of a value or two is wrong often, so that the pass is repeated
    for step, number, margin in ((1, 1, 0.0), (1, 1, 0.02), (2, 2, 0.02), (rows, 1 << 15, 0.02)):
        blocks = [slice(i, min(i + step, rows)) for i in range(0, rows, step)]
        with patch.multiple(threshold, BLOCKS=number, VALUES=number, MARGIN=margin or 1e-3):
            assert threshold.kth_largest(Dense(D), k, blocks) == want
    assert threshold.kth_largest(Dense(D), 0, [slice(0, rows)]) == math.inf


@given(
    st.lists(st.floats(-2, 2), min_size=2, max_size=4),
    st.integers(1, 4),
    st.integers(0, 100),
)
@settings(max_examples=25, deadline=None)
def test_linear_is_linear(weights: list[float], r: int, seed: int) -> None:
    given = ops(seed, (9, 11), r, len(weights))
    want = sum(w * op.dense(torch.float64) for op, w in zip(given, weights, strict=True))
    for name in ("linear", "cat"):
        found = made(name, given, weights).operator
        assert isinstance(found, LowRank)
        torch.testing.assert_close(found.dense(torch.float64), want, rtol=1e-5, atol=1e-5)
    full = made("svd", given, weights, rank=9).operator.dense(torch.float64)
    torch.testing.assert_close(full, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in DELTAS if n not in TWO | {"lego", "dare", "dare-ties", "della"}])
def test_one_input_without_thinning_is_itself(name: str) -> None:
    """What a strategy does is between inputs, but for what it flattens or thins out."""
    if name in {"iso-c", "iso-cts"}:
        pytest.skip("one strength in all directions, also of one input")
    full = {"ties": {"density": 1.0}, "knots": {"density": 1.0}, "magnitude-prune": {"density": 1.0}}
    options = {**full, "breadcrumbs": {"beta": 0.0, "gamma": 1.0}}.get(name, {})
    (op,) = ops(4, count=1)
    torch.testing.assert_close(made(name, [op], [1.0], **options).operator.dense(), op.dense(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", DELTAS)
def test_stacks_of_experts(name: str) -> None:
    g = torch.Generator().manual_seed(0)
    given: list[Operator] = [
        LowRank(torch.randn(3, 10, 2, generator=g), torch.randn(3, 2, 8, generator=g)) for _ in "ab"
    ]
    assert all(op.experts for op in given)
    if name == "lego":
        with pytest.raises(Unsupported, match="stack of experts"):
            made(name, given, [1.0, 1.0])
        return
    found = made(name, given, [0.5, 0.5]).operator
    assert found.shape == (3, 10, 8)
    if name in {"tsv", "iso-c", "linear"}:  # what works on the matrices does so on each
        for e in range(3):
            alone = [LowRank(op.B[e], op.A[e]) for op in given]  # type: ignore[attr-defined]
            want = made(name, alone, [0.5, 0.5]).operator.dense()
            torch.testing.assert_close(found.dense()[e], want, rtol=1e-4, atol=1e-4)


def test_a_della_element_survives_as_often_as_it_should() -> None:
    D = torch.randn(400, 50, generator=torch.Generator().manual_seed(0))
    strategy: Any = strategies.get("della")
    cfg = strategy.config({"density": 0.3, "epsilon": 0.4})
    from adaptr.algebra import stream

    kept = strategy.pruned(D.clone(), cfg, stream.integers(0, "x", D.numel()).view(D.shape)) != 0
    order = D.abs().argsort(1, descending=True)
    assert float(kept.float().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(kept.gather(1, order[:, :5]).float().mean()) == pytest.approx(0.5 - 0.4 * 2 / 50, abs=0.05)
    assert float(kept.gather(1, order[:, -5:]).float().mean()) == pytest.approx(0.1 + 0.4 * 3 / 50, abs=0.05)


def test_config_is_checked() -> None:
    for name, values, word in (
        ("ties", {"density": 0.0}, "density"),
        ("ties", {"density": "much"}, "wanted float"),
        ("ties", {"dens": 0.2}, "density"),
        ("della", {"density": 0.1, "epsilon": 0.5}, "epsilon"),
        ("breadcrumbs", {"beta": 0.9, "gamma": 0.5}, "gamma"),
        ("regmean", {}, "grams"),
        ("fedex", {"residue": -1}, "residue"),
    ):
        with pytest.raises(BadConfig, match=word):
            strategies.get(name).config(values)


def test_unknown_names_have_near_ones() -> None:
    with pytest.raises(UsageError, match="did you mean `ties`"):
        strategies.get("tise")


def test_third_parties_are_found_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half(Strategy):
        name = "half"

    @dataclass
    class Point:
        value: str
        found: Any
        name, module, by = "strategy", "somewhere", ("somewhere",)

        def load(self) -> Any:
            if isinstance(self.found, Exception):
                raise self.found
            return self.found

    points = {"half": Point("x:Half", Half), "bad": Point("x:Half", Half), "no": Point("x:y", ImportError("gone"))}
    points["int"] = Point("x:int", int)
    monkeypatch.setattr("adaptr.discovery._points", lambda group: points if group == "adaptr.strategies" else {})
    sort = Sort("strategy", "adaptr_strategies", "adaptr.strategies", "the docs")
    assert isinstance(sort.load("half", Strategy), Half)
    assert "half" in sort.names()
    for name, word in (("bad", "calls itself `half`"), ("no", "failed to load"), ("int", "subclass")):
        with pytest.raises(UsageError, match=word):
            sort.load(name, Strategy)
