from __future__ import annotations

import numpy as np
import pytest

from adaptr.errors import UsageError
from adaptr.evaluating.bootstrap import Bootstrap, Interval


def mean(values: np.ndarray):
    return lambda counts: counts @ values / counts.sum(1)


def test_the_interval_of_a_mean_is_that_of_its_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = Bootstrap(times=4000).interval(mean(values), 400)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    draw, hits = np.random.default_rng(1), 0
    for _ in range(200):
        found = Bootstrap(times=200, confidence=0.9).interval(mean(draw.normal(size=50)), 50)
        hits += found.low <= 0 <= found.high
    assert 0.83 <= hits / 200 <= 0.95


def test_a_difference_is_that_of_pairs() -> None:
    """What varies from record to record and is common to both does not blur it."""
    before = np.random.default_rng(2).normal(scale=100, size=50)
    gain = Bootstrap().gain(mean(before + 1), mean(before), 50)
    assert (gain.value, gain.low, gain.high) == pytest.approx((1, 1, 1))
    assert gain.sure


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from adaptr.evaluating import bootstrap

    values = np.arange(30.0)
    whole = Bootstrap(times=50).interval(mean(values), 30)
    monkeypatch.setattr(bootstrap, "BLOCK", 100)
    assert Bootstrap(times=50).interval(mean(values), 30) == whole
    assert Bootstrap(times=50, seed=1).interval(mean(values), 30) != whole


def test_one_record_or_no_resample_has_no_interval() -> None:
    assert Bootstrap().interval(mean(np.ones(1)), 1) == Interval(1.0)
    assert Bootstrap(times=0).interval(mean(np.ones(3)), 3) == Interval(1.0)
    assert not Interval(1.0).sure


@pytest.mark.parametrize("wrong", [{"times": -1}, {"confidence": 1.0}, {"confidence": 0.0}])
def test_what_makes_no_sense_is_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        Bootstrap(**wrong)
