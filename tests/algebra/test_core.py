"""The core space against dense sums, inner products and spectra."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptr import Core, Dense, LowRank
from adaptr.algebra.core import Basis, cut
from adaptr.errors import NotPossible, ShapeError
from algebra import cases

weights = st.lists(st.floats(-2, 2), min_size=4, max_size=4)


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=cases.seeds, out=cases.sides, into=cases.sides, w=weights, k=st.integers(1, 5))
def test_sums_spectra_and_truncations(seed: int, out: int, into: int, w: list[float], k: int) -> None:
    source = cases.Source(seed)
    ops = [cases.KINDS[kind](source, out, into) for kind in ("low_rank", "kron", "hadamard", "wide_rank")]
    core = Core.of(ops)
    total = sum((a * op.dense() for a, op in zip(w, ops, strict=True)), torch.zeros(out, into, dtype=torch.float64))
    C = core.combined(w)
    close(core.lift(C).dense(), total)
    close(core.gram(), torch.tensor([[a.inner(b) for b in ops] for a in ops], dtype=torch.float64))
    S, D = torch.linalg.svdvals(C), torch.linalg.svdvals(total)
    n = min(len(S), len(D))
    close(S[:n], D[:n])
    found, error = core.truncate(C, k)
    size = float(total.norm())
    assert error * size == pytest.approx(float((D[k:] ** 2).sum().sqrt()), abs=1e-7 * (1 + size))
    assert float((found.dense() - total).norm()) == pytest.approx(error * size, abs=1e-7 * (1 + size))


def test_bases_are_orthonormal_and_cores_small() -> None:
    source = cases.Source(0)
    core = Core.of([source.low_rank(40, 30, r) for r in (2, 3, 4)])
    assert [C.shape for C in core.cores] == [(9, 9)] * 3
    close(core.Q_out.T @ core.Q_out, torch.eye(9, dtype=torch.float64))
    close(core.Q_in.T @ core.Q_in, torch.eye(9, dtype=torch.float64))


def test_stacks_of_experts() -> None:
    ops = [cases.stack(cases.Source(seed))["low_rank"] for seed in (1, 2)]
    core = Core.of(ops)
    found = core.lift(core.combined([1.0, -0.5]))
    assert found.experts
    close(found.dense(), ops[0].dense() - 0.5 * ops[1].dense())


def test_what_has_no_factors_is_refused() -> None:
    with pytest.raises(NotPossible):
        Core.of([cases.Source(0).low_rank(3, 4, 2), Dense(torch.zeros(3, 4))])
    with pytest.raises(ShapeError):
        Core.of([LowRank(torch.zeros(3, 1), torch.zeros(1, 4)), LowRank(torch.zeros(4, 1), torch.zeros(1, 4))])


@pytest.mark.parametrize("spread", [0.0, 1.0, 1.9, 2.1, 6.0, 20.0])
@pytest.mark.parametrize("shape", [(8, 40), (8, 5), (3, 8, 40), (0, 40)])
def test_orthonormal_rows_whatever_the_condition(shape: tuple[int, ...], spread: float) -> None:
    X = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    X = X * torch.logspace(0, -spread, shape[-2], dtype=torch.float64).unsqueeze(-1)
    basis, R = Basis.of(X)
    Q = basis.rows()
    torch.testing.assert_close(R.mT @ Q, X, rtol=0, atol=1e-11)
    torch.testing.assert_close(basis.combined(R.mT), X, rtol=0, atol=1e-11)
    eye = torch.eye(Q.shape[-2], dtype=torch.float64).expand(*shape[:-2], -1, -1)
    torch.testing.assert_close(Q @ Q.mT, eye, rtol=0, atol=1e-10)


def test_a_sum_is_as_its_terms() -> None:
    source = cases.Source(0)
    one, two = source.low_rank(40, 30, 3), source.low_rank(40, 30, 2)
    core = Core.of([one * 0.5 + two, two])
    assert [C.shape for C in core.cores] == [(7, 7)] * 2
    close(core.lift(core.cores[0]).dense(), 0.5 * one.dense() + two.dense())


def test_bases_of_nearly_parallel_factors_are_orthonormal() -> None:
    """Whose condition a Gram matrix would square."""
    g = torch.Generator().manual_seed(0)
    x, y, a, b = (torch.randn(1, n, generator=g, dtype=torch.float64) for n in (30, 30, 20, 20))
    ops = [LowRank(x.T, a), LowRank((x + 1e-6 * y).T, b)]
    Q = Core.of(ops).Q_out
    torch.testing.assert_close(Q.T @ Q, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_spectrum_is_cut_where_it_is_cut(seed: int) -> None:
    """Squares of singular values would lose what is below the root of rounding."""
    space = Core.of([cases.Source(seed).low_rank(12, 9, 4)])
    g = torch.Generator().manual_seed(seed)
    U, V = (torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=torch.float64)).Q for _ in "UV")
    S = torch.tensor([1.0, 0.5, 1e-7, 1e-10], dtype=torch.float64)
    low, error = space.truncate((U * S) @ V.T, rank=3)
    wanted = space.lift((U[:, :3] * S[:3]) @ V[:, :3].T)
    assert float((low.dense() - wanted.dense()).norm()) < 1e-12
    assert error == pytest.approx(1e-10 / 1.25**0.5, rel=0.01)


def test_an_energy_of_all_leaves_what_is_only_rounding() -> None:
    S = torch.tensor([1.0, 1e-7], dtype=torch.float64)
    assert cut(S, None, 1.0)[0] == 1
    assert cut(torch.tensor([1.0, 1e-5], dtype=torch.float64), None, 1.0)[0] == 2
