"""Numbers of a matrix that share a scale: tiles of rows and columns, whose scales are a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.packings import Part

#: Rows and columns.
Tile = tuple[int, ...]


def grid(shape: tuple[int, ...], tile: Tile) -> tuple[int, int]:
    """How many tiles a matrix has, down and across."""
    return -(-shape[0] // tile[0]), -(-shape[1] // tile[1])


def rows_of(part: Part, shape: tuple[int, ...], tile: Tile, start: int, stop: int) -> Tensor:
    """The scales of rows as stored: (rows, tiles across)."""
    import torch

    if tile[0] == 1:
        return part.rows(start, stop).reshape(stop - start, -1)
    return part.all().reshape(grid(shape, tile))[torch.arange(start, stop) // tile[0]]


def spread(scales: Tensor, tile: Tile, columns: int) -> Tensor:
    """(rows, tiles across) to (rows, columns), or to what spreads to it."""
    return scales if scales.shape[1] == 1 else scales.repeat_interleave(tile[1], 1)[:, :columns]


def times(values: Tensor, scales: Tensor, tile: Tile) -> Tensor:
    """(rows, columns) by (rows or 1, tiles across)."""
    if scales.shape[1] == 1:
        return values * scales
    if values.shape[1] % tile[1]:
        return values * spread(scales, tile, values.shape[1])
    return (values.view(*scales.shape, tile[1]) * scales.unsqueeze(-1)).view(values.shape)


def require_whole(name: str, columns: int, size: int) -> None:
    """Raises `CheckpointError` where groups of `size` don't fill the columns."""
    if size < 1 or columns % size:
        raise CheckpointError(
            f"`{name}`, in groups of columns that share a scale,",
            verb="has",
            got=f"{columns} columns",
            want=f"a multiple of {size}",
            hint="the configuration is of another checkpoint",
        )
