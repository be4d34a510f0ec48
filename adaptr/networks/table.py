"""A module's name in another library, and tables of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spelling:
    """Another name of a module: `paths`, one behind the other along the rows where they are several.

    `part`: it is only the rows of that number in the one there is, which several share. `paired`: where it makes a
    scale and a shift and nothing else, one library has the rows of the one first, the other those of the other.
    """

    paths: tuple[str, ...]
    part: int | None = None
    paired: bool = False


_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


class Table:
    """Names that two libraries give to the modules of each block, `#` being its number.

    A name on the right that several have is a module that has the rows of them all, in this order. `paired`: of
    those on the left, the modulations whose scale and shift change places.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], paired: Sequence[str] = ()) -> None:
        self._paired = frozenset(paired)
        self._right: dict[str, tuple[str, int | None]] = {}
        self._left: dict[str, list[str]] = {}
        for left, right in pairs:
            self._left.setdefault(right, []).append(left)
        for right, lefts in self._left.items():
            for number, left in enumerate(lefts):
                self._right[left] = (right, number if len(lefts) > 1 else None)

    def others(self, path: str) -> Iterator[Spelling]:
        """What the other library calls it, either of the two being meant."""
        block = _NUMBER.search(path)
        key = _NUMBER.sub("#", path, count=1)
        for found, part in ((key, block[0]), (path, "")) if block else ((path, ""),):
            if found in self._right:
                right, number = self._right[found]
                yield Spelling((right.replace("#", part),), number, found in self._paired)
            if found in self._left:
                lefts = self._left[found]
                yield Spelling(tuple(left.replace("#", part) for left in lefts), paired=lefts[0] in self._paired)
