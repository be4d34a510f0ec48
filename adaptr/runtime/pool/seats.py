"""Which row of a batch sits where: rows of about one rank share a shelf, and who is there already stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptr.runtime.pool.residents import Key

#: A shelf as it was: its rank, its places and whose factors lie there.
Had = tuple[int, int, tuple[Key | None, ...]]
#: Smaller ranks share a shelf: a product more costs as much as the zeros.
SMALLEST = 4


@dataclass(frozen=True)
class Seating:
    """Rows on one shelf. `shelf`: which of those there were, None for a new one with `places` of `rank`.

    `rows`: the row of the batch at each place; `fresh`: the places whose factors must be read; `keys`: whose lie there
    then.
    """

    shelf: int | None
    rank: int
    places: int
    rows: tuple[int, ...]
    fresh: tuple[int, ...]
    keys: tuple[Key | None, ...]


@dataclass(frozen=True)
class Plan:
    """The seatings behind each other, and behind them the rows of rank 0. `order`: the row at each place."""

    seatings: tuple[Seating, ...]
    order: tuple[int, ...]
    there: Tensor | None
    back: Tensor | None


def plan(ranks: Sequence[int], had: Sequence[Had], rows: Sequence[Key | None], device: torch.device) -> Plan:
    """Where rows of these ranks sit, given the shelves there are."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for i, rank in enumerate(ranks):
        if rank:
            by_size[size(rank)].append(i)
    shelves = {size(rank): i for i, (rank, _, _) in enumerate(had)}
    found = []
    for each, members in sorted(by_size.items()):
        shelf, most = shelves.get(each), max(ranks[i] for i in members)
        if shelf is not None and had[shelf][0] >= most and had[shelf][1] >= len(members):
            found.append(_seated(shelf, *had[shelf], members, rows))
        else:
            found.append(_seated(None, most, 1 << (len(members) - 1).bit_length(), (), members, rows))
    order = [i for seating in found for i in seating.rows] + [i for i, rank in enumerate(ranks) if not rank]
    if order == sorted(order):
        return Plan(tuple(found), tuple(order), None, None)
    there = torch.tensor(order)
    return Plan(tuple(found), tuple(order), there.to(device), there.argsort().to(device))


def size(rank: int) -> int:
    """Ranks of one size share a shelf: the power of two above, so that less than half of it are zeros."""
    return max(1 << (rank - 1).bit_length(), SMALLEST)


def _seated(
    shelf: int | None,
    rank: int,
    places: int,
    keys: tuple[Key | None, ...],
    members: Sequence[int],
    rows: Sequence[Key | None],
) -> Seating:
    """Seat `members`: those whose adapter lies on one of the places in use where it lies, the others where room is."""
    waiting: dict[Key | None, list[int]] = defaultdict(list)
    for i in reversed(members):
        waiting[rows[i]].append(i)
    seats = [waiting[key].pop() if waiting.get(key) else None for key in keys[: len(members)]]
    seats += [None] * (len(members) - len(seats))
    fresh = tuple(place for place, i in enumerate(seats) if i is None)
    rest = iter(sorted(i for those in waiting.values() for i in those))
    seated = tuple(next(rest) if i is None else i for i in seats)
    return Seating(shelf, rank, places, seated, fresh, tuple(rows[i] for i in seated) + tuple(keys[len(members) :]))
