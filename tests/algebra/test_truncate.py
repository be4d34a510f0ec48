"""Truncation against the optimum of a dense SVD, exact and randomised."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptr import Dense, LowRank, Operator
from adaptr.algebra import truncate
from adaptr.errors import NotPossible, UsageError
from algebra import cases


def optimum(D: torch.Tensor, k: int) -> float:
    """The relative error of the best rank-k approximation, over all experts."""
    S = torch.linalg.svdvals(D)
    return float((S[..., k:] ** 2).sum().sqrt() / D.norm())


def measured(op: Operator, found: Operator) -> float:
    D = op.dense()
    return float((found.dense() - D).norm() / D.norm())


@pytest.mark.parametrize("kind", cases.KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=cases.seeds, out=cases.sides, into=cases.sides, k=st.integers(1, 6))
def test_reaches_the_optimum(kind: str, seed: int, out: int, into: int, k: int) -> None:
    op = cases.KINDS[kind](cases.Source(seed), out, into)
    found, error = op.truncate(k)
    assert found.rank <= k
    assert found.shape == op.shape
    assert error == pytest.approx(optimum(op.dense(), k), abs=1e-7)
    assert error == pytest.approx(measured(op, found), abs=1e-7)


@pytest.mark.parametrize("kind", cases.KINDS)
@settings(max_examples=10, deadline=None)
@given(seed=cases.seeds, energy=st.floats(0.05, 1.0))
def test_keeps_the_smallest_rank_with_that_energy(kind: str, seed: int, energy: float) -> None:
    op = cases.KINDS[kind](cases.Source(seed), 8, 6)
    found, error = op.truncate(energy=energy)
    r = found.A.shape[0]
    assert 1 - error**2 >= energy - 1e-9
    assert r == 1 or 1 - optimum(op.dense(), r - 1) ** 2 < energy + 1e-9


@pytest.mark.parametrize("make", [cases.stack, cases.convolution])
def test_stacks_and_convolutions(make: cases.Draw) -> None:
    for op in make(cases.Source(2)).values():
        found, error = op.truncate(2)
        assert found.shape == op.shape
        assert found.experts == op.experts
        flat = op.dense() if op.experts else op.dense().flatten(1)
        assert error == pytest.approx(optimum(flat, 2), abs=1e-9)
        assert error == pytest.approx(measured(op, found), abs=1e-9)


@pytest.mark.parametrize("experts", [False, True])
def test_randomised(experts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without factors and too large for a whole SVD: near the optimum, with the error that it says."""
    monkeypatch.setattr(truncate, "SMALL", 0)
    shape = (2, 120, 90) if experts else (120, 90)
    source = cases.Source(0)
    U, V = torch.linalg.qr(source.tensor(*shape)).Q, torch.linalg.qr(source.tensor(*shape[:-2], 90, 90)).Q
    op = Dense(U @ torch.diag_embed(0.9 ** torch.arange(90, dtype=torch.float64).expand((*shape[:-2], 90))) @ V.mT)
    op.experts = experts
    found, error = op.truncate(12)
    assert error == pytest.approx(measured(op, found), rel=1e-6)
    assert error <= optimum(op.dense(), 12) * 1.001
    assert error == op.truncate(12)[1], "the stream is its own"
    found, error = op.truncate(energy=0.999)
    assert 1 - error**2 >= 0.999
    assert found.factors()[1].shape[-2] == 33  # 1 - 0.9^(2k) >= 0.999 of what there is
    assert op.truncate(rank=5, energy=0.999)[0].factors()[1].shape[-2] == 5


def test_a_sum_with_noise_is_found_without_being_formed() -> None:
    source = cases.Source(1)
    signal = LowRank(source.tensor(600, 4), source.tensor(4, 700))
    noise = Dense(0.01 * source.tensor(600, 700))
    found, error = (signal + noise).truncate(4)
    assert error <= optimum((signal + noise).dense(), 4) * (1 + 1e-6)
    assert error == pytest.approx(measured(signal + noise, found), rel=1e-6)


@pytest.mark.parametrize("block", [30, 200])
@pytest.mark.parametrize("shape", [(9, 40), (40, 9), (15, 15), (3, 7, 10), (3, 10, 7)])
@pytest.mark.parametrize("way", ["_whole", "_by_gram"])
def test_all_of_a_spectrum_in_blocks(
    way: str, shape: tuple[int, ...], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read in blocks it is what it is in one piece, to the last value, with one that is zero."""
    op = Dense(cases.Source(3).tensor(*shape), experts=len(shape) == 3)
    op.D[..., -1, :] = op.D[..., :, -1] = 0
    monkeypatch.setattr("adaptr.algebra.operator.BLOCK", block)
    monkeypatch.setattr(truncate, "BLOCK", 2 * block)
    for k in (4, min(op.size)):
        found, error, square = getattr(truncate, way)(op, k, None, *[op.norm() ** 2] * (way == "_by_gram"))
        assert square == pytest.approx(op.norm() ** 2)
        assert error == pytest.approx(optimum(op.dense(), k), abs=1e-7)
        assert error == pytest.approx(measured(op, found), abs=1e-7)


def test_nothing_to_keep() -> None:
    zero = LowRank(torch.zeros(5, 2), torch.zeros(2, 4))
    found, error = zero.truncate(1)
    assert error == 0.0
    assert not found.dense().any()
    empty = LowRank(torch.zeros(5, 0), torch.zeros(0, 4))
    assert empty.norm() == 0.0
    assert empty.truncate(2)[1] == 0.0
    assert not empty.dense().any()


def test_half_precision_factors_give_fp32() -> None:
    op = LowRank(torch.randn(5, 2).bfloat16(), torch.randn(2, 4).bfloat16())
    found, error = op.truncate(2)
    assert found.A.dtype is torch.float32
    torch.testing.assert_close(found.dense(), op.dense(torch.float32), rtol=1e-5, atol=1e-5)
    assert error <= 1e-9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "wanted a rank or a share"),
        ({"rank": 0}, "the rank is 0"),
        ({"energy": 0.0}, "the energy is 0"),
        ({"energy": 1.5}, "the energy is 1.5"),
    ],
)
def test_refuses(arguments: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Dense(torch.eye(3)).truncate(**arguments)


def test_a_vector_has_no_rank() -> None:
    with pytest.raises(NotPossible, match="which has no rank"):
        Dense(torch.randn(8)).truncate(rank=2)
