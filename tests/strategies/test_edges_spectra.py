"""Spectra at the edge of what a formula means: of other ranks, of more than the sides have, cancelling."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from adaptr import strategies
from adaptr.algebra.dense import Dense
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.strategies.base import Place
from strategies.formulas import SHAPE, close, exact, made
from strategies.test_reference import low, nearest, svd

# ---------------------------------------------------------------- spectra


@pytest.mark.parametrize(("ranks", "common"), [((2, 6), 0.8), ((1, 6), 0.5), ((3, 4), 0.2), ((1, 1, 1), 0.01)])
def test_iso_cts_takes_the_directions_that_there_are(ranks: tuple[int, ...], common: float) -> None:
    ops = low((24, 20), ranks)
    D = [exact(op) for op in ops]
    U, S, V = svd(sum(D))  # type: ignore[arg-type]
    own = min(round((len(S) - int(len(S) * common)) / len(D)), len(S) // len(D))
    k = len(S) - own * len(D)
    parts = [(U[:, :k], S[:k], V[:k])]
    for one in D:
        u, s, v = torch.linalg.svd(one - U[:, :k] @ U[:, :k].T @ one, full_matrices=False)
        n = min(own, int((s > 1e-9 * one.norm()).sum()))
        parts.append((u[:, :n], s[:n], v[:n]))
    want = torch.cat([s for _, s, _ in parts]).mean() * nearest(torch.cat([u for u, _, _ in parts], 1))
    want = want @ nearest(torch.cat([v for _, _, v in parts]))
    for order in itertools.permutations(range(len(ops))):
        close(made("iso-cts", [ops[n] for n in order], [1.0] * len(ops), common=common), want)


def test_iso_cts_of_more_tasks_than_directions_has_common_ones_alone() -> None:
    ops = low((24, 2), (1, 1, 1))
    close(made("iso-cts", ops, [1.0] * 3, common=0.01), made("iso-c", ops, [1.0] * 3))


@pytest.mark.parametrize("name", ["iso-c", "iso-cts", "tsv"])
def test_experts_of_other_ranks_are_as_on_their_own(name: str) -> None:
    g = torch.Generator().manual_seed(0)
    ops: list[Any] = [LowRank(torch.randn(3, 10, 3, generator=g), torch.randn(3, 3, 8, generator=g)) for _ in "ab"]
    for op in ops:
        op.B[1, :, 1:] = 0.0
        op.B[2] = 0.0
    found = made(name, ops, [1.0, 0.5])
    for e in range(3):
        close(found[e], made(name, [LowRank(op.B[e], op.A[e]) for op in ops], [1.0, 0.5]))


def test_tsv_of_one_direction_twice_is_that_direction() -> None:
    """Where tasks share their directions the nearest orthonormal ones are not free to be anything else."""
    (op,) = low(SHAPE, (1,))
    close(made("tsv", [op, op * 0.5], [1.0, 1.0]), 0.75 * exact(op))


def test_iso_c_of_what_cancels_is_nothing() -> None:
    a, b = low(SHAPE, (2, 2))
    assert float(made("iso-c", [a, b, -a, -b], [0.1, 0.2, 0.1, 0.2]).abs().max()) == 0.0


def test_what_dense_products_round_off_is_no_direction() -> None:
    """A delta without factors of its own has those directions that its product has."""
    ops = low((24, 20), (2, 3))
    dense = [Dense(exact(op)) for op in ops]
    for name in ("iso-c", "iso-cts", "tsv", "knots"):
        close(made(name, dense, [1.0, 1.0]), made(name, ops, [1.0, 1.0]))


@pytest.mark.parametrize("name", ["iso-c", "tsv", "knots"])
def test_a_result_has_the_dtype_of_its_inputs_and_not_that_of_its_arithmetic(name: str) -> None:
    ops = [Dense(exact(op).float()) for op in low(SHAPE, (2, 2))]
    strategy = strategies.get(name)
    found = strategy.make(ops, [1.0, 1.0], strategy.config({}), Place("layer"), None, None).operator
    assert found.dtype == torch.float32


# ---------------------------------------------------------------- lego


def test_lego_takes_more_ranks_than_a_side_has() -> None:
    ops = low((4, 7), (9, 6))
    found = made("lego", ops, [1.0, 1.0], k=15, reweight=False)
    close(found, exact(ops[0]) + exact(ops[1]))
    assert bool(made("lego", ops, [0.7, 0.4]).isfinite().all())


def test_lego_goes_by_units_and_not_by_the_first_input() -> None:
    """All units are of one length, so that the first of them is a matter of choice."""
    g = torch.Generator().manual_seed(3)
    ops: list[Operator] = []
    for _ in range(3):
        U = torch.nn.functional.normalize(torch.randn(3, 19, generator=g, dtype=torch.float64), dim=1)
        ops.append(LowRank(U[:, :12].T.contiguous(), U[:, 12:].contiguous()))
    want = made("lego", ops, [1.0, 1.0, 1.0])
    for order in itertools.permutations(ops):
        assert torch.equal(made("lego", order, [1.0, 1.0, 1.0]), want)
