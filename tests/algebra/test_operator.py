"""Every operator against its dense form: parts, products, numbers, arithmetic."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptr import Dense, LowRank, Operator, Sum
from adaptr.algebra import operator
from adaptr.errors import NotPossible, ShapeError
from algebra import cases

few = settings(max_examples=25, deadline=None)
each_kind = pytest.mark.parametrize("kind", cases.KINDS)


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@st.composite
def span(draw: cases.Draw, n: int) -> slice:
    start = draw(st.integers(0, n - 1))
    return slice(start, draw(st.integers(start + 1, n)))


@each_kind
@few
@given(seed=cases.seeds, out=cases.sides, into=cases.sides, data=st.data())
def test_parts(kind: str, seed: int, out: int, into: int, data: st.DataObject) -> None:
    op = cases.KINDS[kind](cases.Source(seed), out, into)
    D, W = op.dense(), torch.randn(out, into, dtype=torch.float64)
    rows, cols = data.draw(span(out)), data.draw(span(into))
    assert op.shape == tuple(D.shape) == (out, into)
    close(op.rows(rows), D[rows])
    close(op.cols(cols), D[:, cols])
    places = torch.tensor(data.draw(st.lists(st.integers(0, into - 1), min_size=1, max_size=5)))
    close(op.cols(places), D[:, places])
    close(op.add_rows(W[rows], rows), (W + D)[rows])
    close(op.add_cols(W[:, cols], cols), (W + D)[:, cols])
    assert op.rows(rows, torch.float32).dtype is torch.float32
    assert torch.linalg.matrix_rank(D) <= op.rank <= min(out, into)


@each_kind
@few
@given(seed=cases.seeds, out=cases.sides, into=cases.sides, batch=st.lists(st.integers(1, 3), max_size=2))
def test_products(kind: str, seed: int, out: int, into: int, batch: list[int]) -> None:
    source = cases.Source(seed)
    op = cases.KINDS[kind](source, out, into)
    D, x, y = op.dense(), source.tensor(*batch, into), source.tensor(*batch, out)
    close(op @ x, x @ D.T)
    close(op.back(y), y @ D)
    assert abs(float(((op @ x) * y).sum() - (x * op.back(y)).sum())) <= 1e-9 * (
        1 + float(x.norm() * y.norm() * D.norm())
    )


@pytest.mark.parametrize("other", cases.KINDS)
@each_kind
@settings(max_examples=6, deadline=None)
@given(seed=cases.seeds, out=cases.sides, into=cases.sides)
def test_inner_products(kind: str, other: str, seed: int, out: int, into: int) -> None:
    source = cases.Source(seed)
    one, two = (cases.KINDS[k](source, out, into) for k in (kind, other))
    D, E = one.dense(), two.dense()
    size = float(D.norm() * E.norm())
    assert abs(one.inner(two) - float((D * E).sum())) <= 1e-10 * (1 + size)
    assert abs(one.inner(two) - two.inner(one)) <= 1e-10 * (1 + size)
    assert one.norm() == pytest.approx(float(D.norm()), rel=1e-7, abs=1e-9)


@each_kind
@few
@given(seed=cases.seeds, out=cases.sides, into=cases.sides, a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_arithmetic(kind: str, seed: int, out: int, into: int, a: float, b: float) -> None:
    source = cases.Source(seed)
    op, other = cases.KINDS[kind](source, out, into), cases.KINDS["mixed"](source, out, into)
    D, E = op.dense(), other.dense()
    close((op * a).dense(), a * D)
    close((a * op).dense(), a * D)
    close((-op).dense(), -D)
    total = a * op + b * other
    close(total.dense(), a * D + b * E)
    close((op - other).dense(), D - E)
    assert isinstance(total, Sum)
    assert not any(isinstance(term, Sum) for term in total.terms)
    close(op.dense(), D)  # nothing above changed it


@pytest.mark.parametrize("kind", cases.EXACT)
@few
@given(seed=cases.seeds, out=cases.sides, into=cases.sides)
def test_low_rank_is_exact(kind: str, seed: int, out: int, into: int) -> None:
    op = cases.KINDS[kind](cases.Source(seed), out, into)
    found = op.low_rank()
    assert isinstance(found, LowRank)
    close(found.dense(), op.dense())


@pytest.mark.parametrize("kind", sorted(set(cases.KINDS) - set(cases.EXACT)))
def test_what_has_no_low_rank_form_says_so(kind: str) -> None:
    with pytest.raises(NotPossible, match="no exact low-rank form; truncate it"):
        cases.KINDS[kind](cases.Source(0), 6, 4).low_rank()


STACK, CONVOLUTION = cases.stack(cases.Source(0)), cases.convolution(cases.Source(0))


@pytest.mark.parametrize("name", STACK)
def test_stacks_of_experts(name: str) -> None:
    op, D = STACK[name], STACK[name].dense()
    assert op.experts
    assert op.shape == (3, 5, 4)
    assert op.size == (5, 4)
    source = cases.Source(1)
    x, y = source.tensor(3, 2, 4), source.tensor(3, 2, 5)
    close(op @ x, x @ D.mT)
    close(op.back(y), y @ D)
    close(op.rows(slice(1, 3)), D[1:3])
    close(op.add_rows(torch.ones(2, 5, 4, dtype=torch.float64), slice(1, 3)), 1 + D[1:3])
    for other in STACK.values():
        assert op.inner(other) == pytest.approx(float((D * other.dense()).sum()), abs=1e-9)


@pytest.mark.parametrize("name", CONVOLUTION)
def test_convolutions_are_flat_matrices(name: str) -> None:
    op, D = CONVOLUTION[name], CONVOLUTION[name].dense()
    assert op.shape == (6, 4, 3, 2)
    source = cases.Source(1)
    x, y = source.tensor(2, 24), source.tensor(2, 6)
    close(op @ x, x @ D.flatten(1).T)
    close(op.back(y), y @ D.flatten(1))
    close(op.rows(slice(2, 5)), D[2:5])
    close(op.add_rows(torch.ones(3, 4, 3, 2, dtype=torch.float64), slice(2, 5)), 1 + D[2:5])
    for other in CONVOLUTION.values():
        assert op.inner(other) == pytest.approx(float((D * other.dense()).sum()), abs=1e-9)
    if name in {"low_rank", "hadamard", "kron"}:
        close(op.low_rank().dense(), D)


@each_kind
def test_gradients_flow_to_the_factors(kind: str) -> None:
    op = cases.KINDS[kind](cases.Source(3), 6, 4)
    learning = [t.requires_grad_() for t in op.tensors if t.is_floating_point()]
    x = cases.Source(4).tensor(5, 4)
    (op @ x).pow(2).sum().backward()
    by_product = [t.grad.clone() for t in learning]
    for t in learning:
        t.grad = None
    (x @ op.dense().T).pow(2).sum().backward()
    for found, t in zip(by_product, learning, strict=True):
        assert float(found.abs().max()) > 0
        close(found, t.grad)


@each_kind
def test_blocks_bound_what_is_dense(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op = cases.KINDS[kind](cases.Source(5), 8, 6)
    whole = op.norm(), op.inner(Dense(torch.ones(8, 6, dtype=torch.float64)))
    monkeypatch.setattr(operator, "BLOCK", 12)
    blocks = list(op.blocks())
    assert [b.stop - b.start for b in blocks] == [2, 2, 2, 2]
    assert (op.norm(), op.inner(Dense(torch.ones(8, 6, dtype=torch.float64)))) == pytest.approx(whole)
    x, y = torch.ones(6, dtype=torch.float64), torch.ones(8, dtype=torch.float64)
    close(op @ x, op.dense() @ x)
    close(op.back(y), y @ op.dense())


def test_shapes_must_agree() -> None:
    one, two = (Dense(torch.zeros(shape)) for shape in ((2, 3), (3, 2)))
    for use in (lambda: one + two, lambda: one.inner(two)):
        with pytest.raises(ShapeError, match=r"Dense\(2, 3\) and Dense\(3, 2\)"):
            use()


def test_nothing_is_scaled_twice_or_by_one() -> None:
    op = cases.KINDS["low_rank"](cases.Source(0), 4, 3)
    assert op * 1.0 is op
    assert isinstance(op * 2, Operator)
    assert (op * 2 * 3).scale == pytest.approx(6 * op.scale)
