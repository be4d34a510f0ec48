"""Cards that people have, and how much of a training fits on each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adaptr.errors import UsageError, shown

GIB = 2**30
#: What a card's driver and libraries take before the first tensor, and the share that allocators lose to gaps.
CONTEXT, GAPS = GIB * 7 // 10, 0.05
#: What a machine with one memory for all leaves to a GPU.
UNIFIED = 0.75
#: Batches beyond it are of no interest.
MOST = 1024


@dataclass(frozen=True)
class Card:
    """`memory`: bytes, as the maker says. `unified`: shared with the rest of the machine."""

    name: str
    memory: int
    unified: bool = False

    @property
    def room(self) -> int:
        """Bytes that tensors may have."""
        there = self.memory * UNIFIED if self.unified else self.memory - CONTEXT
        return max(0, int(there * (1 - GAPS)))


#: The maker's gigabytes are GiB.
CARDS = (
    *(Card(name, size * GIB) for name, size in {
        "RTX 3060": 12, "RTX 4070": 12, "T4": 16, "V100 16": 16, "RTX 4090": 24, "L4": 24, "A10": 24,
        "RTX 5090": 32, "V100 32": 32, "A100 40": 40, "A100 80": 80, "H100": 80, "H200": 141, "MI300X": 192,
    }.items()),
    *(Card(f"Apple {size}", size * GIB, unified=True) for size in (16, 32, 64, 128)),
)  # fmt: skip

_UNITS = {
    "": 2**30,
    "G": 2**30,
    "GB": 2**30,
    "GIB": 2**30,
    "M": 2**20,
    "MB": 2**20,
    "MIB": 2**20,
    "T": 2**40,
    "TB": 2**40,
}


def memory(text: str) -> int:
    """`12GB`, `12 GiB`, `12`, `500MB` or the name of a card as bytes; as with cards, a gigabyte is 2**30.

    Raises `UsageError` for anything else.
    """
    card = next((one for one in CARDS if one.name.lower() == text.strip().lower()), None)
    if card is not None:
        return card.memory
    said = text.strip().upper().replace(" ", "")
    number = said.rstrip("GMTIB")
    try:
        found = float(number) * _UNITS[said[len(number) :]]
    except (ValueError, KeyError):
        found = 0.0
    if not 0 < found < 2**60:
        raise UsageError(
            "the memory",
            got=f"`{shown(text, 40)}`",
            want="a number of gigabytes such as `12GB`, or one of " + ", ".join(f"`{one.name}`" for one in CARDS),
        )
    return int(found)


def largest(room: int, peak: Callable[[int], int]) -> int:
    """The largest batch whose peak is at most `room` bytes, 0 for none; `peak` grows with the batch."""
    if peak(1) > room:
        return 0
    least, most = 1, 2
    while most <= MOST and peak(most) <= room:
        least, most = most, most * 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if peak(middle) <= room else (least, middle)
    return min(least, MOST)
