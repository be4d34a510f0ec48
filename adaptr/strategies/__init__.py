"""Strategies: how several deltas at one target become one. Found by name, like methods.

A strategy is a file in `adaptr_strategies`, or a class given by the entry-point group `adaptr.strategies`. It
subclasses one of

    Strategy     combine(operators, weights, cfg, place): any way of its own
    InCore       core(cores, weights, cfg): the paper's formula on small cores, never dense
    Elementwise  block(parts, weights, cfg, ready): the paper's formula on blocks of rows of dense deltas
    Whole        whole(adapters, weights, cfg): for adapters that have no delta
"""

from __future__ import annotations

import functools

from adaptr.discovery import Sort
from adaptr.strategies.base import Strategy

SORT = Sort("strategy", "adaptr_strategies", "adaptr.strategies", "`docs/strategies.md`")


def names() -> list[str]:
    """All strategies, built-in and installed."""
    return SORT.names()


@functools.cache
def get(name: str) -> Strategy:
    """The strategy of that name. Raises `UsageError`, with near names."""
    found: Strategy = SORT.load(name, Strategy)
    return found
