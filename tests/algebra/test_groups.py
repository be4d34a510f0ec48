"""For how many inputs in a row a delta is one and the same: what zero points can take of it follows from that."""

from __future__ import annotations

import pytest
import torch

from adaptr import Dense, LowRank
from algebra import cases


def pooled(groups: int, size: int) -> LowRank:
    return LowRank(torch.randn(6, 2), torch.randn(2, groups).repeat_interleave(size, 1), 0.5)


@pytest.mark.parametrize("kind", cases.KINDS)
def test_columns_of_a_group_are_one(kind: str) -> None:
    op = cases.KINDS[kind](cases.Source(0), 6, 8)
    D = op.dense().unflatten(1, (-1, op.group))
    assert torch.equal(D, D[:, :, :1].expand_as(D))


@pytest.mark.parametrize(("groups", "size"), [(24, 1), (6, 4), (4, 6), (1, 24)])
def test_sums_of_inputs_have_columns_in_groups(groups: int, size: int) -> None:
    assert pooled(groups, size).group == size
    assert (pooled(groups, size) * 3.0).group == size


def test_groups_of_a_sum_lie_in_those_of_each_term() -> None:
    assert (pooled(4, 6) + pooled(6, 4)).group == 2
    assert (pooled(4, 6) + pooled(2, 12)).group == 6


def test_groups_begin_at_their_multiples() -> None:
    A = torch.ones(1, 24)
    A[:, 6:14] = 2.0
    assert LowRank(torch.randn(6, 1), A).group == 2


def test_where_it_is_not_known_each_input_is_one() -> None:
    assert Dense(torch.ones(4, 8)).group == 1
    assert LowRank(torch.ones(4, 2, 1, 1), torch.ones(2, 4, 3, 3)).group == 1
    assert LowRank(torch.ones(2, 6, 2), torch.ones(2, 2, 8)).group == 1
