"""What watches weights notices whatever changes them, and holds on to none."""

from __future__ import annotations

import pytest
import torch

from adaptr.host.watch import Watch


def test_memory_that_is_given_back_is_not_looked_at() -> None:
    tensor = torch.ones(300, 300)
    watch = Watch([tensor])
    assert watch.holds([tensor])
    tensor.data = torch.ones(2, 2)
    assert not watch.holds([tensor])
    del tensor
    assert not watch.holds([torch.ones(300, 300)])


def test_whole_rows_and_columns_of_a_large_weight_are_noticed() -> None:
    weight = torch.zeros(700, 900)
    for row in range(0, 700, 7):
        watch = Watch([weight])
        weight.data[row] += 1
        assert not watch.holds([weight]), row
    for column in range(0, 900, 9):
        watch = Watch([weight])
        weight.data[:, column] += 1
        assert not watch.holds([weight]), column


def test_a_single_value_written_by_torch_is_noticed() -> None:
    weight = torch.zeros(700, 900)
    watch = Watch([weight])
    weight[3, 5] = 1
    assert not watch.holds([weight])


def test_the_same_memory_read_in_another_order_is_another_weight() -> None:
    weight = torch.arange(9.0).view(3, 3)
    watch = Watch([weight])
    weight.data = weight.data.t()
    assert not watch.holds([weight])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.uint8, torch.complex128])
def test_any_dtype_is_watched(dtype: torch.dtype) -> None:
    tensor = torch.ones(7, 5, dtype=dtype)
    watch = Watch([tensor, 2.0, "name"])
    assert watch.holds([tensor, 2.0, "name"])
    assert not watch.holds([tensor, 2.5, "name"])
    assert not watch.holds([tensor, tensor, "name"])
    assert not watch.holds([tensor, 2.0])
    tensor.data[6] = 3
    assert not watch.holds([tensor, 2.0, "name"])


def test_what_can_not_be_watched() -> None:
    with torch.inference_mode():
        inference = torch.ones(3)
    assert Watch.can([torch.ones(3), torch.ones(3, 2).t(), torch.ones(0), 1.0])
    for tensor in (inference, torch.ones(3, device="meta"), torch.ones(3, 4)[:, ::2], torch.ones(3).to_sparse()):
        assert not Watch.can([tensor])
