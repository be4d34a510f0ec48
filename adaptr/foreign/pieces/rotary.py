"""Rows of queries and keys: Meta's code has the halves of a head alternate, transformers one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def halves(heads: int, values: Tensor) -> Tensor:
    """`values` (heads * 2 * n, ...) whose rows alternate, with the first half of each head before the second."""
    return values.reshape(heads, -1, 2, *values.shape[1:]).transpose(1, 2).reshape(values.shape)
