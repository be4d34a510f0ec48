"""Which adapters are on the device: the last used stay, those in use can't go."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adaptr.errors import AdapterTooLarge, NoRoom
from adaptr.families.row import Apart, Row, Step
from adaptr.runtime.pool.fit import Fitted, features_of
from adaptr.runtime.pool.pages import Pages

#: An adapter in one of its versions.
Key = tuple[str, int]
#: Pages are at least so many numbers wide: narrower ones cost more to look up than they save.
NARROWEST = 32


@dataclass(frozen=True)
class Resident:
    """An adapter on the device.

    `pages`: all of them; `at`: those of a layer, where row j of A (r, in) and of Bᵀ (r, out) lie behind each other.
    """

    pages: Tensor
    at: Mapping[str, Tensor]
    rank: Mapping[str, int]
    rows: Mapping[str, Row]  # without their factors
    places: Mapping[str, Apart]  # what lies in pages is on no device
    parked: Tensor  # the pages of that

    def placed(self, data: Tensor) -> dict[str, Apart]:
        """What it does at places, with its tensors out of pages `data`."""
        flat, start = data.index_select(0, self.parked).flatten(), 0

        def found(tensor: Tensor) -> Tensor:
            nonlocal start
            if not tensor.is_meta:
                return tensor
            start += tensor.numel()
            return flat[start - tensor.numel() : start].view(tensor.shape)

        return _each(self.places, found)

    @property
    def nbytes(self) -> int:
        """Of what is not in pages."""
        vectors = (v for row in self.rows.values() for v in (row.gain, row.into, row.shift))
        return sum(v.nbytes for v in vectors if v is not None)


class Residents:
    """At most `slots` adapters in pages of `memory` bytes together."""

    def __init__(self, model: nn.Module, slots: int, memory: int, dtype: torch.dtype) -> None:
        first = next(model.parameters())
        self.slots, self.device = slots, first.device
        width = max(math.gcd(*features_of(model)), NARROWEST)
        self.pages = Pages(max(memory // (width * dtype.itemsize), 1), width, dtype, first.device)
        self.held: OrderedDict[Key, Resident] = OrderedDict()
        self.pins: Counter[Key] = Counter()
        self.evictions = 0

    def use(self, keys: Iterable[Key]) -> list[Key]:
        """Mark those that are here as just used; returns the others."""
        missing = []
        for key in keys:
            if key in self.held:
                self.held.move_to_end(key)
            else:
                missing.append(key)
        return missing

    def put(self, key: Key, fitted: Fitted, needed: Iterable[Key]) -> None:
        """Copy an adapter to the device. Others go for it, the least recently used first, never those in `needed` or
        pinned. Raises `NoRoom` where that is not enough, `AdapterTooLarge` where it never is.
        """
        rows, numbers = fitted.rows, _numbers(fitted.places)
        parked = self.pages.per_row(len(numbers))
        count = sum(self._size(row) for row in rows.values()) + parked
        self._make_room(key, count, set(needed))
        pages = self.pages.take(count)
        at, rank, start = {}, {}, 0
        for path, row in rows.items():
            if row.A is not None and row.B is not None:
                at[path], rank[path] = pages[start : start + self._size(row)], row.A.shape[0]
                self.pages.write(at[path], torch.cat((row.A, row.B.t()), 1))
                start += self._size(row)
        if parked:
            self.pages.write(pages[start:], numbers[None])
        vectors = {p: self._vectors(row) for p, row in rows.items() if (row.gain, row.into, row.shift) != (None,) * 3}
        left = _each(fitted.places, lambda t: t.to("meta" if t.is_floating_point() else self.device))
        self.held[key] = Resident(pages, at, rank, vectors, left, pages[start:])

    def drop(self, key: Key) -> None:
        """Take an adapter off the device, unless it is pinned: then it goes when it is unpinned and room is wanted."""
        if key in self.held and not self.pins.get(key):
            self.pages.give(self.held.pop(key).pages)

    def forget(self, key: Key) -> None:
        """Take an adapter off the device, pinned or not: it is put there again when it is wanted."""
        self.pages.give(self.held.pop(key).pages)

    def _vectors(self, row: Row) -> Row:
        def put(v: Tensor | None) -> Tensor | None:
            return None if v is None else v.detach().to(self.device, self.pages.data.dtype)

        return Row(gain=put(row.gain), into=put(row.into), shift=put(row.shift))

    def _size(self, row: Row) -> int:
        """In pages."""
        if row.A is None or row.B is None:
            return 0
        return row.A.shape[0] * self.pages.per_row(row.A.shape[1] + row.B.shape[0])

    def _make_room(self, key: Key, count: int, needed: set[Key]) -> None:
        going = [k for k in self.held if k not in needed and not self.pins.get(k)]
        freed = list(itertools.accumulate((len(self.held[k].pages) for k in going), initial=self.pages.free))
        least = max(len(self.held) - self.slots + 1, 0)
        enough = [n for n, free in enumerate(freed) if n >= least and free >= count]
        if not enough:
            page = self.pages.width * self.pages.data.itemsize
            raise (NoRoom if count <= self.pages.count else AdapterTooLarge)(
                f"there is no room for `{key[0]}` ({count * page:,} bytes) on the device: "
                f"{len(needed | set(self.pins))} adapters are wanted at once, the pool holds {self.slots} in "
                f"{self.pages.count * page:,} bytes; give "
                "`adaptr.pool` more `slots` or `memory`, or batch rows of fewer adapters"
            )
        for old in going[: enough[0]]:
            self.drop(old)
            self.evictions += 1


def _each(places: Mapping[str, Apart], make: Callable[[Tensor], Tensor]) -> dict[str, Apart]:
    """The same with other tensors, made in one order."""

    def other(step: Step) -> Step:
        return dataclasses.replace(step, tensors={name: make(tensor) for name, tensor in step.tensors.items()})

    return {path: Apart(tuple(map(other, apart.steps))) for path, apart in places.items()}


def _numbers(places: Mapping[str, Apart]) -> Tensor:
    """All that has fractions, behind each other."""
    steps = (step for apart in places.values() for step in apart.steps)
    found = [t.flatten() for step in steps for t in step.tensors.values() if t.is_floating_point()]
    return torch.cat([torch.empty(0), *found])
