"""Codes of four bits: their shapes say what the tensor's is, and every damaged pair of shapes is noticed."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptr.adapter import packed
from adaptr.adapter.dequantize import dequantize, shapes

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def stored(others: list[int], axis: int, bytes_: int, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of codes and blocks with `bytes_` bytes along an axis."""
    codes, blocks = list(others), list(others)
    codes.insert(axis, bytes_)
    blocks.insert(axis, math.ceil(2 * bytes_ / size))
    return tuple(codes), tuple(blocks)


@given(SIZES, st.integers(0, 3), st.integers(2, 200), st.sampled_from(sorted(packed.BLOCKS)))
def test_the_axis_follows_from_both_shapes(others: list[int], axis: int, count: int, suffix: str) -> None:
    axis = min(axis, len(others))
    codes, blocks = stored(others, axis, count, packed.BLOCKS[suffix])
    assert packed.axis_of(codes, blocks, packed.BLOCKS[suffix]) == axis
    found = shapes({"A": codes, "A" + suffix: blocks})
    assert found == {"A": (*codes[:axis], 2 * count, *codes[axis + 1 :])}
    raw = torch.zeros(codes, dtype=torch.uint8)
    assert dequantize({"A": raw, "A" + suffix: torch.ones(blocks)})["A"].shape == found["A"]


@pytest.mark.parametrize(
    ("codes", "blocks"),
    [
        ((2, 40), (2, 1)),
        ((2, 40), (2, 3)),
        ((2, 40), (1, 2)),
        ((2, 40), (2,)),
        ((2, 40), (2, 2, 1)),
        ((2, 40), (2, 40)),
        ((2, 1), (2, 1)),
        ((2, 0), (2, 0)),
        ((40,), ()),
    ],
)
def test_other_shapes_are_of_no_tensor(codes: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    assert packed.axis_of(codes, blocks, 64) is None


def test_the_first_of_two_codes_is_in_the_high_half() -> None:
    codes = torch.tensor([[0, 15, 7, 8], [1, 2, 3, 4]], dtype=torch.uint8)
    assert packed.pairs(codes, 1).tolist() == [[0x0F, 0x78], [0x12, 0x34]]
    assert packed.pairs(codes, 0).tolist() == [[0x01, 0xF2, 0x73, 0x84]]
    steps = torch.tensor([[0.5], [-2.0]]).bfloat16()
    found = packed.values(packed.pairs(codes, 1), steps, packed.STEP)
    assert found.tolist() == [[-4.0, 3.5, -0.5, 0.0], [14.0, 12.0, 10.0, 8.0]]
    largest = packed.values(packed.pairs(codes, 1), torch.tensor([[2.0], [1.0]]), packed.ABSMAX)
    assert largest[0].tolist() == [-2.0, 2.0, 0.0, pytest.approx(2 * packed.NF4[8])]
