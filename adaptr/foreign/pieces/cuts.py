"""Rows of one tensor that are several layers: what takes those of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def rows(start: int, count: int, values: Tensor) -> Tensor:
    """So many rows from one on."""
    return values[start : start + count]


def of_groups(groups: int, each: int, part: slice, values: Tensor) -> Tensor:
    """Rows (groups * each * n, ...) of one `part` of the `each` heads in every group."""
    return values.reshape(groups, each, -1, *values.shape[1:])[:, part].flatten(0, 2)
