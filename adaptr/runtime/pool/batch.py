"""Gather what the layers need for the rows of one batch: once for a composition, and then only what is new in it.

At each layer rows of about one rank share a shelf, a tensor with a place for each. An adapter that stays in the batch
stays in its place, so that a row which joins costs the reading of its own factors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptr.families.row import Row
from adaptr.runtime.pool.lane import Group, LayerLane, Work
from adaptr.runtime.pool.pages import Pages
from adaptr.runtime.pool.residents import Key, Resident
from adaptr.runtime.pool.seats import Had, Plan, Seating, plan


@dataclass(frozen=True)
class Shelf:
    """`factors` (places, R, in + out) of about one rank, row j of A and of Bᵀ behind each other; `keys`: whose."""

    factors: Tensor
    keys: tuple[Key | None, ...]

    @property
    def had(self) -> Had:
        return self.factors.shape[1], self.factors.shape[0], self.keys


class Batch:
    """What the layers of one pool need for the rows that ran last, and the shelves it lies on."""

    def __init__(self) -> None:
        self._rows: tuple[Key | None, ...] | None = None
        self._works: dict[str, Work] = {}
        self._shelves: dict[str, tuple[Shelf, ...]] = {}

    def works(
        self, lanes: Mapping[str, LayerLane], rows: tuple[Key | None, ...], held: Mapping[Key, Resident], pages: Pages
    ) -> dict[str, Work]:
        """What each layer does for a batch whose rows are these adapters, or none."""
        if rows == self._rows and len(lanes) == len(self._works):
            return self._works
        keep = not torch.is_grad_enabled()  # a backward may still want what lies there
        with torch.inference_mode(False), torch.no_grad():  # and the next forward be one with gradients
            return self._gathered(lanes, rows, held, pages, keep)

    def _gathered(
        self,
        lanes: Mapping[str, LayerLane],
        rows: tuple[Key | None, ...],
        held: Mapping[Key, Resident],
        pages: Pages,
        keep: bool,
    ) -> dict[str, Work]:
        self._rows = None
        plans: dict[object, Plan] = {}  # most layers have the same ranks and the same shelves
        for path, lane in lanes.items():
            ranks = tuple(0 if key is None else held[key].rank.get(path, 0) for key in rows)
            shelves = self._shelves.pop(path, ()) if keep else ()  # half filled it must not be found again
            known = ranks, tuple(shelf.had for shelf in shelves)
            if known not in plans:
                plans[known] = plan(*known, rows, pages.data.device)
            found = plans[known]
            self._shelves[path] = tuple(_filled(s, shelves, lane, rows, held, pages) for s in found.seatings)
            self._works[path] = _work(lane, found, self._shelves[path], rows, held, pages)
        self._rows = rows
        return self._works


def _filled(
    seating: Seating,
    shelves: Sequence[Shelf],
    lane: LayerLane,
    rows: Sequence[Key | None],
    held: Mapping[Key, Resident],
    pages: Pages,
) -> Shelf:
    """The shelf with the factors of those that are new on it."""
    if seating.shelf is None:
        factors = pages.matrices(seating.places, seating.rank, sum(lane.features))
    else:
        factors = shelves[seating.shelf].factors
    for place in seating.fresh:
        key = rows[seating.rows[place]]
        assert key is not None, "rows without an adapter have no rank"
        pages.read(held[key].at[lane.target.path], factors[place])
    return Shelf(factors, seating.keys)


def _work(
    lane: LayerLane,
    found: Plan,
    shelves: Sequence[Shelf],
    rows: Sequence[Key | None],
    held: Mapping[Key, Resident],
    pages: Pages,
) -> Work:
    (into, out), groups, start = lane.features, [], 0
    for seating, shelf in zip(found.seatings, shelves, strict=True):
        count = len(seating.rows)
        A, Bt = shelf.factors[:count, :, :into], shelf.factors[:count, :, into : into + out]
        groups.append(Group(slice(start, start + count), A.transpose(1, 2), Bt))
        start += count
    work = Work(lane.target.path, len(rows), found.there, found.back, tuple(groups))
    each = [None if key is None else held[key].rows.get(lane.target.path) for key in map(rows.__getitem__, found.order)]
    if not any(each):
        return work
    return dataclasses.replace(
        work,
        into=_stacked(each, lambda row: row.into, into, 1.0, pages.data),
        gain=_stacked(each, lambda row: row.gain, out, 1.0, pages.data),
        shift=_stacked(each, lambda row: row.shift, out, 0.0, pages.data),
    )


def _stacked(
    rows: Sequence[Row | None], pick: Callable[[Row], Tensor | None], features: int, neutral: float, like: Tensor
) -> Tensor | None:
    """(n, 1, features), `neutral` for rows without such a vector; None if no row has one."""
    found = [None if row is None else pick(row) for row in rows]
    if all(v is None for v in found):
        return None
    blank = like.new_full((features,), neutral)
    return torch.stack([blank if v is None else v for v in found])[:, None]
