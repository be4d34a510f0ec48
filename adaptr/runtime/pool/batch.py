"""Gather what the layers need for the rows of one batch: once for a composition, not once for a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from adaptr.families.row import Row
from adaptr.runtime.pool.lane import Group, Lane, Work
from adaptr.runtime.pool.pages import Pages
from adaptr.runtime.pool.residents import Key, Resident

#: Numbers that may be multiplied by zero to have one product more of the same shape, and one product less.
SPARE = 1 << 17


def works(
    lanes: Mapping[str, Lane], rows: Sequence[Key | None], held: Mapping[Key, Resident], pages: Pages
) -> dict[str, Work]:
    """What each layer does for a batch whose rows are these adapters, or none."""
    each = [None if key is None else held[key] for key in rows]
    table, starts = _table(each)
    return {path: _work(lane, each, table, starts, pages) for path, lane in lanes.items()}


def _table(each: Sequence[Resident | None]) -> tuple[Tensor, list[int]]:
    """The pages of all adapters behind each other, page 0 first, and where those of each row begin."""
    found, begins, at = [torch.zeros(1, dtype=torch.long)], dict[int, int](), 1
    for resident in each:
        if resident is not None and id(resident) not in begins:
            begins[id(resident)] = at
            found.append(resident.pages)
            at += len(resident.pages)
    return torch.cat(found), [begins.get(id(resident), 0) for resident in each]


def _work(lane: Lane, each: Sequence[Resident | None], table: Tensor, starts: Sequence[int], pages: Pages) -> Work:
    path, (into, out) = lane.target.path, lane.features
    ranks = [0 if r is None else r.rank.get(path, 0) for r in each]
    begins = [s + (0 if r is None else r.start.get(path, 0)) for r, s in zip(each, starts, strict=True)]
    groups = []
    for members in buckets(ranks, into + out):
        most = max(ranks[i] for i in members)
        rank, begin = (torch.tensor([values[i] for i in members])[:, None] for values in (ranks, begins))
        wide_in, wide_out = pages.per_row(into), pages.per_row(out)
        A = pages.read(_pages(table, begin, rank, most, wide_in), into)
        Bt = pages.read(_pages(table, begin + rank * wide_in, rank, most, wide_out), out)
        chosen = None if len(members) == len(each) else torch.tensor(members, device=A.device)
        groups.append(Group(chosen, A.transpose(1, 2), Bt))
    vectors = [None if r is None else r.rows.get(path) for r in each]
    return Work(
        path,
        len(each),
        tuple(groups),
        _stacked(vectors, lambda row: row.into, into, 1.0, pages.data),
        _stacked(vectors, lambda row: row.gain, out, 1.0, pages.data),
        _stacked(vectors, lambda row: row.shift, out, 0.0, pages.data),
    )


def _pages(table: Tensor, begin: Tensor, rank: Tensor, most: int, wide: int) -> Tensor:
    """The pages of a factor for each row, (n, most * wide): page 0 beyond its own rank."""
    steps = torch.arange(most * wide)
    places = torch.where(steps < rank * wide, begin + steps, 0)
    return table[places]


def buckets(ranks: Sequence[int], width: int) -> list[list[int]]:
    """Rows of about one rank together, those of rank 0 nowhere.

    By powers of two, smaller ones with the next larger where that multiplies few zeros.
    """
    by_size: dict[int, list[int]] = {}
    for i, rank in enumerate(ranks):
        if rank:
            by_size.setdefault(1 << (rank - 1).bit_length(), []).append(i)
    found: list[list[int]] = []
    for size in sorted(by_size):
        most = max(ranks[i] for i in by_size[size])
        if found and sum(most - ranks[i] for i in found[-1]) * width <= SPARE:
            found[-1] = sorted(found[-1] + by_size[size])
        else:
            found.append(by_size[size])
    return found


def _stacked(
    rows: Sequence[Row | None], pick: Callable[[Row], Tensor | None], features: int, neutral: float, like: Tensor
) -> Tensor | None:
    """(n, 1, features), `neutral` for rows without such a vector; None if no row has one."""
    found = [None if row is None else pick(row) for row in rows]
    if all(v is None for v in found):
        return None
    blank = like.new_full((features,), neutral)
    return torch.stack([blank if v is None else v for v in found])[:, None]
