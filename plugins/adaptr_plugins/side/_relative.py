"""What attention adds by how far apart two tokens are: a table of buckets, T5's.  Raffel et al. 2020, arXiv:1910.10683.

Half of the buckets are of one distance each, the others of ranges that grow by a factor up to `REACH`, and the last of
all beyond. Where later tokens are seen too, each half of the table is for one direction.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: The distance from which on all are one bucket, T5's own.
REACH = 128


def bias(table: Tensor, tokens: int, keys: int, causal: bool) -> Tensor:
    """(1, heads, tokens, keys) of a table (buckets, heads); the tokens are the last of the keys."""
    import torch

    at = torch.arange(keys, device=table.device)
    found: Tensor = table[buckets(at[None] - at[keys - tokens :, None], len(table), causal)]
    return found.permute(2, 0, 1)[None]


def buckets(ahead: Tensor, count: int, causal: bool) -> Tensor:
    """The number of the bucket, below `count`, of a key that is `ahead` tokens behind the one that sees it."""
    import torch

    before = torch.zeros_like(ahead)
    if not causal:
        count //= 2
        before = (ahead > 0).long() * count
    far = ahead.abs() if not causal else (-ahead).clamp(min=0)
    single = count // 2
    grown = (far.clamp(min=1).float() / single).log() / math.log(REACH / single) * (count - single)
    return before + torch.where(far < single, far, (single + grown.long()).clamp(max=count - 1))
