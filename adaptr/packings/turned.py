"""A weight that lies packed as (out, in) where its model has it as (in, out), as Hugging Face's Conv1D does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.packings.codec import Encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from adaptr.packings.codec import Parts, Sinks


@dataclass(frozen=True)
class Turned(Encoded):
    """`inner`: of how it lies. A row of the model's is in all of its rows, so that all are read and written at once."""

    inner: Encoded

    @classmethod
    def of(cls, inner: Encoded) -> Turned:
        out, into = inner.shape
        return cls(inner.scheme, (into, out), inner.dtype, inner)

    @property
    def step(self) -> int:
        return self.shape[0]

    @property
    def in_place(self) -> bool:
        return self.inner.in_place

    @property
    def is_float(self) -> bool:
        return self.inner.is_float

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        return self.inner.wanted()

    def decode(self, parts: Parts, start: int, stop: int) -> Tensor:
        return self.inner.decode(parts, 0, self.shape[1]).T[start:stop].contiguous()

    def before(self, row: int) -> int:
        return self.inner.before(self.shape[1]) * row // self.shape[0]

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        """As they lie, all of them."""
        return self.inner.codes(parts, 0, self.shape[1])

    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        return self.inner.values(codes, parts, 0).T

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        self.inner.put(codes, 0, into)

    def nearest(self, values: Tensor, parts: Parts, start: int) -> Tensor:
        return self.inner.nearest(values.T, parts, 0)

    def steps(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        return self.inner.steps(codes, parts, 0).T
