"""A tensor as llama.cpp lays it out in a GGUF file, as the model has it: decoded by rows, and written again in place.

What is written in blocks is rounded as llama.cpp rounds it, with a scale of its own for each block; where the base's
block is no farther from what is wanted it stays, so that nothing moves that does not change, and no result is worse
than the base. Of types that are only read, `Q8_0` is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from adaptr.format.gguf import CODES, TYPES
from adaptr.format.io import TORCH_NAMES, torch_dtype
from adaptr.llama_cpp import quantised, rows
from adaptr.packings import Encoded, Parts, Sinks

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Laid(Encoded):
    """`kind`: its ggml type; `theirs`: its layer there; `order`: of its rows, see `rows`; `offset`: what is added to
    each element; `turned`: whether it is the transpose. Its codes are its bytes, by rows.
    """

    kind: str
    theirs: str
    order: str = ""
    heads: rows.Heads = rows.UNKNOWN
    offset: float = 0.0
    turned: bool = False

    @property
    def step(self) -> int:
        return self.shape[0] if self.turned else 1

    @property
    def in_place(self) -> bool:
        return True

    @property
    def is_float(self) -> bool:
        return self.kind in TORCH_NAMES

    @property
    def written(self) -> Laid:
        if self.is_float or self.kind in quantised.WRITTEN:
            return self
        return replace(self, kind=quantised.ELSE, scheme=scheme(quantised.ELSE))

    @property
    def _wide(self) -> tuple[int, ...]:
        """The shape of a row as it is stored."""
        return self.shape[:1] if self.turned else self.shape[1:]

    @property
    def width(self) -> int:
        """Bytes of a row as it is stored."""
        _, block, size = TYPES[CODES[self.kind]]
        return math.prod(self._wide) // block * size

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        return {}

    def before(self, row: int) -> int:
        return row * self.width * self.shape[1] // max(self.shape[0], 1) if self.turned else row * self.width

    def decode(self, parts: Parts, start: int, stop: int) -> Tensor:
        if self.turned:
            return self.values(self.codes(parts, 0, self.shape[0]), parts, 0)[start:stop].contiguous()
        return super().decode(parts, start, stop)

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        """Of what is turned, all of them."""
        part = parts["weight"]
        if self.turned:
            return _bytes(part.all())
        if not self.order:
            return _bytes(part.rows(start, stop))
        at = self._places[start:stop]
        low, high = int(at.min()), int(at.max()) + 1
        return _bytes(part.rows(low, high))[at - low]

    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        shape = (len(codes), *self._wide)
        if self.is_float:
            found = codes.contiguous().view(torch_dtype(self.kind)).reshape(shape)
        else:
            found = quantised.floats(self.kind, shape, codes.contiguous())
        found = found + self.offset if self.offset else found
        return found.T if self.turned else found

    def nearest(self, values: Tensor, parts: Parts, start: int) -> Tensor:
        there = self._there(parts, start, start + len(values))
        stored = (values.T if self.turned else values) - self.offset
        if self.is_float:
            made = _bytes(stored.to(torch_dtype(self.kind)).contiguous())
            return made if there is None or not self.offset else self._unmoved(values, there, made, parts, start)
        made = quantised.blocks(self.kind, stored)
        made = made if there is None else quantised.nearer(self.kind, stored, there.reshape(made.shape), made)
        return made.reshape(len(stored), -1)

    def _unmoved(self, values: Tensor, there: Tensor, made: Tensor, parts: Parts, start: int) -> Tensor:
        """`made`, but for numbers of the base, which the offset would round a second time."""
        import torch

        same = (self.values(there, parts, start) == values).reshape(len(made), -1, 1)
        wide = (*same.shape[:2], -1)
        return torch.where(same, there.reshape(wide), made.reshape(wide)).reshape(made.shape)

    def _there(self, parts: Parts, start: int, stop: int) -> Tensor | None:
        """What the base has there, None where that is of another type."""
        stored = self.shape[1] if self.turned else self.shape[0]
        return self.codes(parts, start, stop) if parts["weight"].entry.nbytes == stored * self.width else None

    def steps(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        found = quantised.steps(codes, TYPES[CODES[self.kind]][2]).reshape(len(codes), *self._wide)
        return found.T if self.turned else found

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        sink = into["weight"]
        if not self.order:
            sink.rows(start, codes)
            return
        at = self._places[start : start + len(codes)]
        by = at.argsort()
        for first, last in _runs(at[by].tolist()):
            sink.rows(int(at[by[first]]), codes[by[first:last]])

    @cached_property
    def _places(self) -> Tensor:
        """Which of the stored rows each of the model's is."""
        return rows.order(self.order, self.theirs, self.shape[0], self.heads).argsort()


def scheme(kind: str) -> str:
    """What people call a type of ggml's."""
    return f"gguf-{kind.lower()}"


def _bytes(stored: Tensor) -> Tensor:
    """Rows as rows of bytes."""
    import torch

    return stored.contiguous().view(torch.uint8).reshape(len(stored), -1)


def _runs(rising: list[int]) -> Iterator[tuple[int, int]]:
    """Where numbers follow one another."""
    first = 0
    for i in range(1, len(rising) + 1):
        if i == len(rising) or rising[i] != rising[i - 1] + 1:
            yield first, i
            first = i
