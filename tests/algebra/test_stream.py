"""The random stream is what it was, for ever: these numbers may not change."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptr.algebra import stream

WORD = 1 << 64
FROZEN = [7169425023271878926, 5638633172700100482]
CHOSEN = [69, 197, 360, 727, 906]


def reference(seed: int, name: str, n: int) -> int:
    """The n-th number, in Python's integers: SplitMix64 as published."""
    z = (stream._key(seed, name) + (n + 1) * 0x9E3779B97F4A7C15) % WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**40), name=st.text(max_size=5), start=st.integers(0, 2**40))
def test_is_splitmix64(seed: int, name: str, start: int) -> None:
    found = [value % WORD for value in stream.integers(seed, name, 3, start).tolist()]
    assert found == [reference(seed, name, start + i) for i in range(3)]


def test_published_numbers() -> None:
    """The first numbers of the generator whose state starts at 0, as published with it."""
    z = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)
    stream._mix(z, np.empty_like(z))
    assert int(z[0]) == 0xE220A8397B1DCDAF


def test_frozen() -> None:
    assert stream.integers(0, "a", 2).tolist() == FROZEN
    assert stream.choose(7, "mask", 1000, 5).tolist() == CHOSEN


def test_uniform_is_uniform_and_can_be_entered_anywhere() -> None:
    u = stream.uniform(1, "u", (100, 200))
    assert u.dtype is torch.float64
    assert 0 <= float(u.min()) < float(u.max()) < 1
    assert abs(float(u.mean()) - 0.5) < 0.01
    assert abs(float(u.var()) - 1 / 12) < 0.002
    assert torch.equal(stream.uniform(1, "u", (5,), start=70), u.flatten()[70:75])
    assert not torch.equal(stream.uniform(2, "u", (5,)), u.flatten()[:5])


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 200), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_choose(n: int, share: float, seed: int) -> None:
    k = int(n * share)
    found = stream.choose(seed, "c", n, k)
    assert len(found) == k
    assert found.dtype is torch.int64
    assert bool((found[1:] > found[:-1]).all())
    assert k == 0 or 0 <= int(found[0]) <= int(found[-1]) < n


def test_every_place_is_chosen_as_often() -> None:
    counts = torch.zeros(20)
    for seed in range(400):
        counts[stream.choose(seed, "c", 20, 5)] += 1
    assert float(counts.min()) > 60
    assert float(counts.max()) < 140


def test_signs() -> None:
    s = stream.signs(0, "s", (10, 20))
    assert set(s.flatten().tolist()) == {-1.0, 1.0}
    assert abs(float(s.mean())) < 0.25
