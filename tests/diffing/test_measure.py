"""Figures of a diff against the dense matrices they are about."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptr.adapter import Target
from adaptr.algebra.dense import Dense
from adaptr.algebra.lowrank import LowRank
from adaptr.diffing.base import intruders
from adaptr.diffing.measure import measure, sampled
from adaptr.diffing.report import TargetDiff


def low(seed: int, r: int = 2, out: int = 12, into: int = 10) -> LowRank:
    g = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(out, r, generator=g), torch.randn(r, into, generator=g), 0.5)


def measured(a: LowRank | Dense | None, b: LowRank | Dense | None, shape: tuple[int, int] = (12, 10)) -> TargetDiff:
    return measure(Target("q", "linear", shape), a, b, seed=0)


def entropy_rank(D: Tensor) -> float:
    s = torch.linalg.svdvals(D)
    p = s[s > 1e-9] / s.sum()
    return float((-(p * p.log()).sum()).exp())


def read_basis(D: Tensor, r: int) -> Tensor:
    return torch.linalg.svd(D).Vh[:r]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4))
def test_every_figure_is_that_of_the_dense_matrices(seed: int, ra: int, rb: int) -> None:
    a, b = low(seed, ra), low(seed + 1, rb)
    A, B = a.dense(torch.float64), b.dense(torch.float64)
    found = measured(a, b)
    close = {"rel": 1e-5, "abs": 1e-6}
    assert found.norm_a == pytest.approx(float(A.norm()), **close)
    assert found.norm_b == pytest.approx(float(B.norm()), **close)
    assert found.difference == pytest.approx(float((A - B).norm()), **close)
    assert found.cosine == pytest.approx(float((A * B).sum() / A.norm() / B.norm()), **close)
    assert (found.rank_a, found.rank_b) == (ra, rb)
    assert found.effective_a == pytest.approx(entropy_rank(A), **close)
    assert found.effective_sum == pytest.approx(entropy_rank(A + B), **close)
    assert found.spectrum_a == pytest.approx(torch.linalg.svdvals(A)[:ra].tolist(), **close)
    Va, Vb = read_basis(A, ra), read_basis(B, rb)
    cosines = torch.linalg.svdvals(Va @ Vb.T)
    assert found.overlap_in == pytest.approx(float(cosines.square().mean()), **close)
    assert [math.cos(math.radians(x)) for x in found.angles_in] == pytest.approx(cosines.tolist(), abs=1e-5)
    assert found.on_a == pytest.approx(float((B @ Va.T @ Va).norm() / A.norm()), **close)
    assert found.on_b == pytest.approx(float((A @ Vb.T @ Vb).norm() / B.norm()), **close)
    rest = torch.linalg.svdvals(A + B)[max(ra, rb) :]
    assert found.cut == pytest.approx(float(rest.norm() / (A + B).norm()), **close)
    assert found.conflicts == pytest.approx(float((A * B < 0).double().mean()), abs=0.02)
    assert found.approximation == 0


def test_the_same_change_in_other_factors_is_the_same() -> None:
    a = low(0)
    R = torch.tensor([[2.0, 1.0], [0.0, -3.0]])
    found = measured(a, LowRank(a.B @ R, torch.linalg.inv(R) @ a.A, a.scale))
    assert found.state == "same"
    assert found.cosine == pytest.approx(1)
    assert max(found.angles_in) < 0.1


def test_opposite_changes_conflict_everywhere() -> None:
    found = measured(low(0), -low(0))
    assert found.cosine == pytest.approx(-1)
    assert found.conflicts == 1
    assert found.cut is None or found.spectrum_sum[0] < 1e-6


def test_one_side_alone_has_its_size_and_spectrum() -> None:
    found = measured(None, low(3))
    assert (found.state, found.norm_a, found.rank_b, found.cosine, found.on_a) == ("only b", 0, 2, None, None)
    assert len(found.spectrum_b) == 2


def test_a_zero_change_beside_another() -> None:
    found = measured(low(0) * 0.0, low(1))
    assert (found.state, found.cosine, found.on_a, found.rank_a) == ("only b", None, None, 0)


def test_large_changes_without_factors_are_approximated_and_say_so() -> None:
    g = torch.Generator().manual_seed(0)
    D = Dense(torch.randn(600, 520, generator=g))
    found = measured(D, low(1, 3, 600, 520), (600, 520))
    assert 0.5 < found.approximation < 1
    assert found.norm_a == pytest.approx(float(D.D.double().norm()), rel=1e-6)
    assert found.cosine == pytest.approx(D.inner(low(1, 3, 600, 520)) / found.norm_a / found.norm_b, rel=1e-6)


def test_stacks_of_experts_are_batches() -> None:
    g = torch.Generator().manual_seed(0)
    ops = [LowRank(torch.randn(3, 6, 2, generator=g), torch.randn(3, 2, 5, generator=g)) for _ in range(2)]
    found = measure(Target("mlp.experts.up", "experts", (3, 6, 5)), *ops, seed=0)
    A, B = (op.dense(torch.float64) for op in ops)
    assert found.cosine == pytest.approx(float((A * B).sum() / A.norm() / B.norm()), rel=1e-6)
    proj = torch.stack([(v := read_basis(D, 2)).T @ v for D in A])
    assert found.on_a == pytest.approx(float((B @ proj).norm() / A.norm()), rel=1e-6)


def test_sampled_rows_depend_on_seed_and_name_alone() -> None:
    one = sampled(1000, 0, "q")
    assert one == sampled(1000, 0, "q")
    assert one != sampled(1000, 1, "q")
    assert one != sampled(1000, 0, "k")
    assert sum(s.stop - s.start for s in one) == 32
    assert sampled(20, 0, "q") == [slice(0, 20)]


def test_intruders_are_new_directions_of_the_changed_weight() -> None:
    W = torch.diag(torch.arange(12.0, 0.0, -1.0))
    U = torch.linalg.eigh(W @ W.T).eigenvectors
    spread = torch.ones(12, 1) / 12**0.5  # near no axis: its largest cosine is 0.29
    assert intruders(W, LowRank(200 * spread, spread.T), U, 3) == 1
    assert intruders(W, LowRank(5 * torch.eye(12)[:, :1], torch.eye(12)[:1]), U, 3) == 0
