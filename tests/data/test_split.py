"""What is held back to measure on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptr.data import Data, Place, Record, split
from adaptr.data.split import share_of
from adaptr.errors import DataError, UsageError


def numbered(count: int) -> Data:
    return Data([Record({"n": i}, Place("a", i + 1)) for i in range(count)], "sha256:0", "a")


@given(st.integers(2, 60), st.floats(0.01, 0.5), st.integers(0, 99))
def test_each_record_is_on_one_side_in_its_order(count: int, share: float, seed: int) -> None:
    learn, measure = (part.records for part in split(numbered(count), share, seed))
    lines = [[record.place.line for record in part] for part in (learn, measure)]
    assert sorted(lines[0] + lines[1]) == list(range(1, count + 1))
    assert all(part == sorted(part) and part for part in lines)
    assert len(measure) == max(1, round(share * count))


def test_the_seed_decides_on_every_machine() -> None:
    held = [split(numbered(20), 0.2, seed)[1] for seed in (0, 0, 1)]
    assert [[r.place.line for r in data.records] for data in held] == [[5, 8, 16, 19], [5, 8, 16, 19], [5, 8, 9, 12]]
    assert "4 of 20 records are held back to measure on, drawn by seed 0" in held[0].said


def test_shares() -> None:
    assert share_of("5%") == 0.05
    assert share_of(" 12.5 %") == 0.125
    assert share_of("valid.jsonl") is None
    for text in ("0%", "100%"):
        with pytest.raises(UsageError, match="more than 0% and less than 100%"):
            share_of(text)


def test_one_record_can_not_be_split() -> None:
    with pytest.raises(DataError, match="wanted at least two"):
        split(numbered(1), 0.5)
