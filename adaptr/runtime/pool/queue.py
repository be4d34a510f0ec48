"""Requests that wait and requests that run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from adaptr.errors import AdaptrError
from adaptr.runtime.pool.request import Answer, Ended, Request
from adaptr.runtime.pool.residents import Key

#: An answer and the place of its request among all.
Numbered = tuple[int, Answer]


@dataclass
class Row:
    """A request that runs. `most`: tokens for which the model has positions, None for any number."""

    number: int
    request: Request
    key: Key | None
    ends: frozenset[int]
    draws: torch.Generator
    most: int | None
    tokens: list[int] = field(default_factory=list)
    error: AdaptrError | None = None

    @property
    def ended(self) -> Ended | None:
        if self.error is not None:
            return "failed"
        if self.tokens and self.tokens[-1] in self.ends:
            return "eos"
        if len(self.tokens) == self.request.max_new_tokens:
            return "length"
        return "positions" if len(self.tokens) == self.most else None

    def answer(self) -> Numbered:
        ended = self.ended
        assert ended is not None, "only what is done is answered"
        version = self.key[1] if self.key else 0
        return self.number, Answer(self.request, tuple(self.tokens), ended, version, self.error)


class Queue:
    """Requests that have not joined yet, read one ahead. `stuck`: how many rows left no room for the next, or 0."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self.stuck = 0
        self._rest, self._next = enumerate(requests), list[tuple[int, Request]]()

    def __bool__(self) -> bool:
        if not self._next:
            self._next = [given for given in (next(self._rest, None),) if given is not None]
        return bool(self._next)

    def first(self) -> tuple[int, Request]:
        return self._next[0]

    def pop(self) -> tuple[int, Request]:
        return self._next.pop()
