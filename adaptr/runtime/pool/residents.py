"""Which adapters are on the device: the last used stay, those in use can't go."""

from __future__ import annotations

import itertools
import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adaptr.errors import AdapterTooLarge, NoRoom
from adaptr.families.row import Row
from adaptr.runtime.pool.fit import features_of
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

    def put(self, key: Key, rows: Mapping[str, Row], needed: Iterable[Key]) -> None:
        """Copy an adapter to the device. Others go for it, the least recently used first, never those in `needed` or
        pinned. Raises `NoRoom` where that is not enough, `AdapterTooLarge` where it never is.
        """
        count = sum(self._size(row) for row in rows.values())
        self._make_room(key, count, set(needed))
        pages = self.pages.take(count)
        at, rank, start = {}, {}, 0
        for path, row in rows.items():
            if row.A is not None and row.B is not None:
                at[path], rank[path] = pages[start : start + self._size(row)], row.A.shape[0]
                self.pages.write(at[path], torch.cat((row.A, row.B.t()), 1))
                start += self._size(row)
        vectors = {p: self._vectors(row) for p, row in rows.items() if (row.gain, row.into, row.shift) != (None,) * 3}
        self.held[key] = Resident(pages, at, rank, vectors)

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
