"""Zero points that are floats take changes of their groups: the codes stay, whatever rows are written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adaptr.packings import Encoded
from adaptr_packings._pieces.zeros import Zeros
from packed_files import empty, held
from packings import naive

SHAPE = (16, 48)
LAYOUTS = sorted(naive.HQQ)


def opened(folder: Path, made: naive.Made):
    ((stored, parts),) = held(made.saved(folder / "base"))
    assert isinstance(stored.codec, Encoded)
    return stored.codec, parts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_change_of_each_group_is_in_its_zero_point_to_one_rounding(tmp_path: Path, layout: str) -> None:
    made = naive.hqq(SHAPE, layout, 16, 1)
    codec, parts = opened(tmp_path, made)
    zeros = codec.shifted(16)
    assert isinstance(zeros, Zeros)
    change = 0.3 * torch.randn(16, 3)
    wanted = made.values.float() + change.repeat_interleave(16, 1)
    into = empty(parts, "zero")
    for start in range(0, 16, 5):
        rows = wanted[start : start + 5]
        zeros.put(zeros.nearest(rows, parts, start), start, into)
    scale, zero = made.tensors["scale"].float(), made.tensors["zero"].float()
    moved = zero - change.reshape(-1, 1) / scale
    assert torch.allclose(into["zero"].tensor.float(), moved, rtol=2**-10, atol=1e-5)
    assert torch.equal(zeros.values(zeros.codes(into, 3, 11), parts, 3), codec.decode(into, 3, 11))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_no_change_zero_points_are_the_very_bytes(tmp_path: Path, layout: str) -> None:
    made = naive.hqq(SHAPE, layout, 16, 1)
    made.tensors["scale"][3] = 0.0
    codec, parts = opened(tmp_path, made)
    zeros = codec.shifted(48)
    assert zeros is not None
    values = zeros.decode(parts, 0, 16)
    assert torch.equal(values, codec.decode(parts, 0, 16))
    assert torch.equal(zeros.nearest(values.float(), parts, 0), zeros.codes(parts, 0, 16))


@pytest.mark.parametrize(
    "made",
    [
        naive.hqq(SHAPE, "4bit_u8", 24, 1),  # of 24 inputs, some of the next group of the change
        naive.hqq(SHAPE, "4bit_u8", 16, 0),  # along the outputs
        naive.hqq((16, 40), "4bit_u8", 16, 1),  # over the ends of rows
        naive.gptq((64, 96), 4, 16, "gptq", True),  # whole numbers
        naive.awq((48, 64), 16),
    ],
)
def test_others_are_written_by_their_codes(tmp_path: Path, made: naive.Made) -> None:
    codec, _ = opened(tmp_path, made)
    assert codec.shifted(16) is None
