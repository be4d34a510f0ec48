"""Four bits a number: two codes a byte along one axis, the first in the high half, and a number for each block of that
axis, under a name that says what it is.

`<param>.absmax`: codes of NF4, the quantiles of a normal distribution (arXiv 2305.14314, appendix E), times the largest
absolute value of each block of 64. `<param>.step`: codes from 0 to 15, less 8, times the step of each block of 32.

The axis is that on which both shapes differ, and it is twice as long as its bytes: so the shapes alone say what the
tensor's is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]

ABSMAX, STEP = ".absmax", ".step"
#: What the name of a tensor with the numbers of blocks ends in, to the length of a block.
BLOCKS = {ABSMAX: 64, STEP: 32}
#: The length from which on an axis can be packed: a shorter one has as many bytes as blocks.
LEAST = 4
#: What is taken from codes that are steps.
ZERO = 8

# fmt: off
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)
# fmt: on


def suffix_of(name: str, names: Iterable[str]) -> str:
    """What the name of the blocks of the tensor `name` ends in, "" for one that is not packed."""
    return next((suffix for suffix in BLOCKS if name + suffix in names), "")


def axis_of(codes: Shape, blocks: Shape, size: int) -> int | None:
    """Along which axis codes of this shape have blocks of `size`; None where the shapes are not those of one tensor."""
    apart = [i for i, (c, b) in enumerate(zip(codes, blocks, strict=False)) if c != b]
    if len(codes) != len(blocks) or len(apart) != 1:
        return None
    return apart[0] if blocks[apart[0]] == -(-2 * codes[apart[0]] // size) else None


def shape_of(codes: Shape, axis: int) -> Shape:
    """The shape of the tensor whose codes lie in pairs along `axis`."""
    return (*codes[:axis], 2 * codes[axis], *codes[axis + 1 :])


def pairs(codes: Tensor, axis: int) -> Tensor:
    """Codes from 0 to 15, two a byte along an even axis."""
    import torch

    halves = codes.reshape(*codes.shape[:axis], -1, 2, *codes.shape[axis + 1 :])
    return torch.bitwise_or(halves.select(axis + 1, 0) << 4, halves.select(axis + 1, 1))


def values(stored: Tensor, blocks: Tensor, suffix: str) -> Tensor:
    """The numbers, in fp32, of codes and what each block has."""
    import torch

    size = BLOCKS[suffix]
    axis = axis_of(tuple(stored.shape), tuple(blocks.shape), size)
    assert axis is not None, "the reader and the writer see to that"
    codes = torch.stack((stored >> 4, stored & 15), dim=axis + 1).flatten(axis, axis + 1)
    each = wide(blocks).repeat_interleave(size, axis).narrow(axis, 0, codes.shape[axis])
    if suffix == ABSMAX:
        return torch.tensor(NF4, device=stored.device)[codes.long()] * each
    return (codes.float() - ZERO) * each
