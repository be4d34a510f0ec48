"""Draws of a training session: whole numbers that are the same for one forward and place, whoever asks and when.

No generator: one of our own can't be traced, and a recomputation would draw again. A draw is a hash of seed, forward
number and place.
"""

from __future__ import annotations

import threading
import weakref
import zlib
from typing import Any

import torch
from torch import Tensor

MASK = 0x7FFFFFFF
_LOCK = threading.Lock()
_ALL: weakref.WeakValueDictionary[int, Draws] = weakref.WeakValueDictionary()


class Draws:
    """What the draws of one attached adapter begin with: its seed, and how many forwards in training there were.

    `aside`: what is found by it is what a session says of forwards (`Session.saying`).
    """

    def __init__(self, seed: int = 0, number: int = 0) -> None:
        self.seed, self.number = seed, number
        self.aside = object()
        self._enter()

    def _enter(self) -> None:
        with torch.inference_mode(False):
            self.token = torch.zeros(())
        with _LOCK:
            self.key = max(_ALL, default=0) + 1
            _ALL[self.key] = self

    def next(self) -> Tensor:
        """The number of a forward that begins: no other forward gets it, in whatever thread, compiled or not."""
        found: Tensor = forward_number(self.key, self.token)
        return found

    def count(self) -> int:
        with _LOCK:
            self.number += 1
            return self.number

    def __getstate__(self) -> dict[str, Any]:
        return {"seed": self.seed, "number": self.number}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def place_of(path: str) -> int:
    """A number for a place in a model, the same in every process."""
    return zlib.crc32(path.encode()) & MASK


def hashed(number: Tensor, seed: int, place: int, stream: int) -> Tensor:
    """23 bits of a hash, as int64 in the shape of `number`; no product of it leaves 63 bits."""
    x = number & MASK
    for salt in (seed, place, stream):
        x = ((x ^ (salt & MASK)) * 2654435761) & MASK
        x = ((x ^ (x >> 15)) * 2246822519) & MASK
    return (x ^ (x >> 13)) >> 8


@torch.library.custom_op("adaptr::forward_number", mutates_args=("token",))
def forward_number(key: int, token: Tensor) -> Tensor:
    """The next number of the `Draws` called `key`. `token`: says that two calls are two, in a graph as well."""
    return torch.tensor(_ALL[key].count())


@forward_number.register_fake
def _(key: int, token: Tensor) -> Tensor:
    return torch.empty((), dtype=torch.long)
