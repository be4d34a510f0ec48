"""Exact products: the same bits in any order of summation, and no less accurate than a product in fp32."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptr.algebra.exact import Product, norms
from adaptr.algebra.hadamard import Hadamard
from adaptr.algebra.kron import Kron
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.algebra.sum import Sum

RANKS = (1, 2, 3, 8, 16, 64, 256)


def pair(r: int, seed: int = 0, out: int = 40, into: int = 56) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(out, r, generator=generator), torch.randn(r, into, generator=generator)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RANKS), st.sampled_from([torch.float32, torch.float64]), st.integers(0, 1000))
def test_any_order_gives_the_same_bits(r: int, dtype: torch.dtype, seed: int) -> None:
    B, A = pair(r, seed)
    order = torch.randperm(r, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(Product(B, A, dtype).whole(), Product(B[:, order], A[order], dtype).whole())


@pytest.mark.parametrize("r", RANKS)
def test_every_partial_sum_is_exact(r: int) -> None:
    """In fp64, in integers' stead: each sum of terms in the order that is worst, all positive, is still a whole number
    of the grids' steps below 2^53."""
    made = Product(*(X.abs() for X in pair(r)), torch.float32)
    for row in range(3):
        left, right = made.B[0][row], made.A[0][:, 0]
        steps = [_step(X) for X in (left, right)]
        total = sum(int(b / steps[0]) * int(a / steps[1]) for b, a in zip(left.tolist(), right.tolist(), strict=True))
        assert total <= 1 << 53
        assert float(left @ right) == total * steps[0] * steps[1]


def _step(X: Tensor) -> float:
    """The largest power of two that all numbers are multiples of."""
    step = 2.0**-80
    while bool(((X / (2 * step)) == (X / (2 * step)).round()).all()):
        step *= 2
    return step


SCALES = {
    "alike": (torch.ones(1), 1.0, 1.0),
    "one factor far larger": (torch.ones(1), 2.0**40, 2.0**-60),
    "directions of all sizes": (torch.logspace(0, -6, 16), 1.0, 1.0),
    "directions far apart": (torch.logspace(0, -30, 16), 1.0, 1.0),
}


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2.0**-23), (torch.float64, 2.0**-50)])
def test_as_accurate_as_the_dtype(scales: str, dtype: torch.dtype, bound: float) -> None:
    """Against integers' arithmetic in two pieces of fp64: relative to the size of row and column."""
    directions, left, right = SCALES[scales]
    B, A = pair(16)
    B, A = B * directions * left, A * right
    want = B.double() @ A.double()
    size = B.double().norm(dim=1, keepdim=True) * A.double().norm(dim=0, keepdim=True)
    plain = ((B @ A).double() - want).abs() / size
    found = (Product(B, A, dtype).whole().double() - want).abs() / size
    assert float(found.max()) <= bound
    assert dtype is torch.float64 or float(found.max()) <= 1.5 * float(plain.max())


def test_a_small_direction_alone_in_a_column_is_not_lost() -> None:
    """Where only a direction that is 2^-20 of another reaches, the result is as good as its own."""
    B, A = pair(2)
    B[:, 1] *= 2.0**-20
    A[0, ::2] = 0
    want = (B.double() @ A.double())[:, ::2]
    found = Product(B, A, torch.float32).whole()[:, ::2].double()
    assert float(((found - want).abs() / want.abs()).max()) < 1e-6


def test_factors_with_nothing_in_them() -> None:
    for r in (0, 3):
        assert not Product(torch.zeros(4, r), torch.ones(r, 5), torch.float32).whole().any()


def test_infinity_and_nan_stay_in_sight() -> None:
    for bad in (torch.inf, torch.nan):
        B, A = pair(3)
        B[1, 1] = bad
        assert not Product(B, A, torch.float32).whole()[1].isfinite().any()


@pytest.mark.parametrize("stack", [False, True])
def test_blocks_are_parts_of_the_whole(stack: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    B, A = torch.randn(*([3] if stack else []), 40, 4), torch.randn(*([3] if stack else []), 4, 56)
    made = Product(B, A, torch.float32)
    whole = made.whole()
    monkeypatch.setattr("adaptr.algebra.exact.BLOCK", 500)
    assert torch.equal(made.whole(), whole)
    assert torch.equal(made.rows(slice(1, 3)), whole[1:3])


def operators() -> dict[str, Operator]:
    one, two = (LowRank(*pair(4, seed), 0.5) for seed in (1, 2))
    conv = LowRank(torch.randn(6, 2, 1, 1), torch.randn(2, 3, 3, 3))
    experts = LowRank(torch.randn(3, 6, 2), torch.randn(3, 2, 5))
    small = LowRank(torch.randn(5, 2), torch.randn(2, 7))
    return {
        "low rank": one,
        "convolution": conv,
        "experts": experts,
        "sum": Sum(one, two * 3.0),
        "hadamard": Hadamard(one, two, 0.25),
        "kron": Kron(small, one, 2.0),
    }


@pytest.mark.parametrize("name", operators())
def test_exact_operators_are_the_operators(name: str) -> None:
    op = operators()[name]
    made = op.exact(torch.float32)
    assert op.portable
    assert made.shape == op.shape
    want, found = op.dense(torch.float64), made.dense()
    assert float((found - want).abs().max()) <= 1e-6 * float(want.abs().max())
    assert torch.equal(made.rows(slice(1, 3)), found[1:3])
    ones = torch.ones(found[1:3].shape)
    assert torch.equal(made.add_rows(ones, slice(1, 3)), found[1:3] + 1) or name == "sum"
    if found.ndim == 2:
        assert torch.equal(made.cols(slice(2, 5)), found[:, 2:5])
        assert torch.equal(made.cols(torch.tensor([4, 0])), found[:, [4, 0]])


def test_a_convolution_of_one_channel_is_told_from_experts() -> None:
    """A (r, 1, k) and B (r, r, 1) fit both; the weight's own shape decides."""
    op = LowRank(torch.randn(4, 4, 1), torch.randn(4, 1, 3))
    W = torch.randn(4, 1, 3)
    want = W + (op.B.flatten(1) @ op.A.flatten(1)).view(4, 1, 3)
    assert torch.allclose(op.exact(torch.float32).add_rows(W, slice(None)), want, atol=1e-6)


def test_norms_in_one_order() -> None:
    V = torch.randn(7, 3, 5, 3)
    assert torch.allclose(norms(V), V.double().flatten(1).norm(dim=1), rtol=1e-15)
    kept = V.double()
    norms(kept)
    assert torch.equal(kept, V.double())
