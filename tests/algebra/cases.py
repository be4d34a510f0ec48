"""Operators of every kind with drawn factors, for property tests. The dense form is the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st

from adaptr import Dense, Diagonal, Hadamard, Kron, LowRank, Operator, Sparse, Sum

Draw = Callable[..., Any]


class Source:
    """Draws fp64 tensors from one seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def tensor(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def places(self, n: int, k: int) -> torch.Tensor:
        return torch.randperm(n, generator=self.generator)[:k].sort().values

    def low_rank(self, out: int, into: int, r: int) -> LowRank:
        return LowRank(self.tensor(out, r), self.tensor(r, into), 0.7)


def low_rank(source: Source, out: int, into: int) -> Operator:
    return source.low_rank(out, into, 3)


def wide_rank(source: Source, out: int, into: int) -> Operator:
    """More columns than the matrix has."""
    return source.low_rank(out, into, max(out, into) + 2)


def kron(source: Source, out: int, into: int) -> Operator:
    a, c = smallest_factor(out), smallest_factor(into)
    right = LowRank(source.tensor(out // a, 2), source.tensor(2, into // c), -0.4)
    return Kron(Dense(source.tensor(a, c), 2.0), right, 1.5)


def kron_full(source: Source, out: int, into: int) -> Operator:
    a, c = smallest_factor(out), smallest_factor(into)
    return Kron(Dense(source.tensor(a, c)), Dense(source.tensor(out // a, into // c)), 0.3)


def hadamard(source: Source, out: int, into: int) -> Operator:
    return Hadamard(source.low_rank(out, into, 2), source.low_rank(out, into, 1), -1.2)


def hadamard_wide(source: Source, out: int, into: int) -> Operator:
    return Hadamard(source.low_rank(out, into, 4), source.low_rank(out, into, 5), 0.2)


def sparse(source: Source, out: int, into: int) -> Operator:
    n = max(1, out * into // 4)
    return Sparse(source.places(out * into, n), source.tensor(n), (out, into), 0.8)


def diagonal(source: Source, out: int, into: int) -> Operator:
    return Diagonal(source.tensor(min(out, into)), (out, into), -0.6)


def dense(source: Source, out: int, into: int) -> Operator:
    return Dense(source.tensor(out, into), 0.5)


def mixed(source: Source, out: int, into: int) -> Operator:
    return Sum(low_rank(source, out, into), sparse(source, out, into)) - 2 * kron(source, out, into)


def low_ranks(source: Source, out: int, into: int) -> Operator:
    return low_rank(source, out, into) + low_rank(source, out, into) * -0.5


KINDS = {
    make.__name__: make
    for make in (
        low_rank,
        wide_rank,
        kron,
        kron_full,
        hadamard,
        hadamard_wide,
        sparse,
        diagonal,
        dense,
        mixed,
        low_ranks,
    )
}
#: Those that convert to low rank exactly.
EXACT = ("low_rank", "wide_rank", "kron", "kron_full", "hadamard", "hadamard_wide", "low_ranks")

seeds = st.integers(0, 2**31)
sides = st.integers(1, 9)


def smallest_factor(n: int) -> int:
    return next((f for f in range(2, n) if n % f == 0), 1)


def stack(source: Source) -> dict[str, Operator]:
    """Operators on a stack of three experts of 5 by 4."""
    left = LowRank(source.tensor(3, 5, 2), source.tensor(3, 2, 4), 0.5)
    return {
        "low_rank": left,
        "hadamard": Hadamard(left, LowRank(source.tensor(3, 5, 1), source.tensor(3, 1, 4)), 2.0),
        "sparse": Sparse(source.places(60, 11), source.tensor(11), (3, 5, 4), 1.5, experts=True),
        "dense": Dense(source.tensor(3, 5, 4), -1.0, experts=True),
        "sum": left + Dense(source.tensor(3, 5, 4), 0.1, experts=True),
    }


def convolution(source: Source) -> dict[str, Operator]:
    """Operators on a convolution (6, 4, 3, 2)."""
    left = LowRank(source.tensor(6, 2, 1, 1), source.tensor(2, 4, 3, 2), 0.5)
    return {
        "low_rank": left,
        "hadamard": Hadamard(left, LowRank(source.tensor(6, 3, 1, 1), source.tensor(3, 4, 3, 2)), 2.0),
        "kron": Kron(Dense(source.tensor(2, 2)), Dense(source.tensor(3, 2, 3, 2)), 0.7),
        "sparse": Sparse(source.places(144, 21), source.tensor(21), (6, 4, 3, 2), 1.5),
        "dense": Dense(source.tensor(6, 4, 3, 2)),
        "sum": left - Dense(source.tensor(6, 4, 3, 2), 0.1),
    }
