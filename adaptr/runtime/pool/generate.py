"""Continuous generation: requests of different adapters and lengths join and leave a running batch between steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adaptr.errors import AdaptrError, InputError, NoRoom, UsageError, shown
from adaptr.runtime.pool.residents import Key
from adaptr.runtime.pool.running import Running

if TYPE_CHECKING:
    from adaptr.runtime.pool.live import Pool


@dataclass(frozen=True)
class Request:
    """A prompt and who answers. `adapter`: a name, or None for the base. `prompt`: token ids.

    `temperature` 0 takes the likeliest token; else tokens are drawn, with `seed`, from the likeliest that have `top_p`
    of the probability together. `eos`: where to stop; None takes what the model's generation config says. `id`: handed
    back with the answer.
    """

    adapter: str | None
    prompt: Sequence[int] | Tensor
    max_new_tokens: int = 32
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    eos: int | Sequence[int] | None = None
    id: Any = None

    def __post_init__(self) -> None:
        if len(self.prompt) < 1:
            raise UsageError("a prompt has no tokens; give it one at least")
        _require_tokens(self.prompt)
        if self.max_new_tokens < 1:
            raise UsageError(f"`max_new_tokens` is {self.max_new_tokens}, wanted 1 or more")
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise UsageError(
                f"`temperature` is {self.temperature:g} and `top_p` {self.top_p:g}, wanted 0 or more, and more than 0 "
                "and at most 1"
            )
        if not -(2**63) <= self.seed < 2**64:
            raise UsageError(f"the seed is {self.seed}, wanted a number of 64 bits")


def _require_tokens(prompt: Sequence[int] | Tensor) -> None:
    """Raise `UsageError` unless these are whole numbers, one behind the other: torch would cut others in silence."""
    try:
        ids = torch.as_tensor(prompt)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(f"a prompt is {shown(prompt)}, wanted token ids; the tokenizer makes them of a text") from None
    if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype is torch.bool:
        raise UsageError(f"a prompt is {ids.dtype} of shape {tuple(ids.shape)}, wanted whole numbers of shape (tokens)")


@dataclass(frozen=True)
class Answer:
    """`tokens`: what was generated, the end included. `ended`: by "eos" or "length", or "refused" before the first
    token, with the reason in `error`. `version`: of the adapter, which is the one it had when the request joined, from
    the first token to the last.
    """

    request: Request
    tokens: tuple[int, ...]
    ended: str
    version: int
    error: AdaptrError | None = None


@dataclass
class _Row:
    request: Request
    key: Key | None
    ends: frozenset[int]
    draws: torch.Generator
    tokens: list[int] = field(default_factory=list)

    def take(self, logits: Tensor) -> None:
        self.tokens.append(sample(logits, self.request, self.draws))

    @property
    def ended(self) -> str:
        if self.tokens[-1] in self.ends:
            return "eos"
        return "length" if len(self.tokens) == self.request.max_new_tokens else ""

    def answer(self) -> Answer:
        return Answer(self.request, tuple(self.tokens), self.ended, self.key[1] if self.key else 0)


def sample(logits: Tensor, request: Request, draws: torch.Generator) -> int:
    """A token from logits (vocabulary)."""
    if not request.temperature:
        return int(logits.argmax())
    likely, order = (logits.cpu().double() / request.temperature).softmax(0).sort(descending=True)
    likely[likely.cumsum(0) - likely >= request.top_p] = 0
    return int(order[torch.multinomial(likely, 1, generator=draws)])


def generate(pool: Pool, requests: Iterable[Request], batch: int) -> Iterator[Answer]:
    """See `Pool.generate`."""
    if batch < 1:
        raise UsageError(f"a batch of {batch} rows answers nothing; give it one at least")
    running, rows, waiting = Running(pool.model), list[_Row](), _Queue(requests)
    pins = pool.residents.pins
    try:
        while rows or waiting:
            here = len(rows)
            yield from _admit(pool, waiting, rows, batch)
            with torch.inference_mode():  # never around a yield: the caller's code runs there
                if rows[here:]:
                    running.join(_prefilled(pool, rows[here:]))
                done = _leave(pool, running, rows)
            yield from done
            if rows:
                with torch.inference_mode():
                    _step(pool, running, rows)
                    done = _leave(pool, running, rows)
                yield from done
    finally:
        for row in rows:
            _unpin(pins, row.key)


class _Queue:
    """Requests that have not joined yet, read one ahead. `stuck`: how many rows left no room for the next, or 0."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self.stuck = 0
        self._rest, self._next = iter(requests), list[Request]()

    def __bool__(self) -> bool:
        if not self._next:
            self._next = [request for request in (next(self._rest, None),) if request is not None]
        return bool(self._next)

    def first(self) -> Request:
        return self._next[0]

    def pop(self) -> Request:
        return self._next.pop()


def _admit(pool: Pool, waiting: _Queue, rows: list[_Row], batch: int) -> list[Answer]:
    """Let requests join `rows` as long as there is a row and room for their adapters beside those that run.

    The answers are to those that never can: what is wrong with one is no matter of the others.
    """
    refused: list[Answer] = []
    if waiting.stuck and len(rows) >= waiting.stuck:
        return refused  # trying again would read its files at each step
    waiting.stuck = 0
    while len(rows) < batch and waiting:
        try:
            rows.append(_joined(pool, waiting.first()))
        except AdaptrError as error:
            if rows and isinstance(error, NoRoom):
                waiting.stuck = len(rows)
                break  # there may be some when a row leaves
            refused.append(Answer(waiting.first(), (), "refused", 0, error))
        waiting.pop()
    return refused


def _joined(pool: Pool, request: Request) -> _Row:
    """A row for a request, its adapter on the device and pinned there."""
    key = pool.key(request.adapter)
    row = _row(pool, request, key)
    if key is not None:
        pool.load([key])
        pool.residents.pins[key] += 1
    return row


def _row(pool: Pool, request: Request, key: Key | None) -> _Row:
    """Raises `InputError` for tokens that the model does not have."""
    known = pool.model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    low, high = (int(f(torch.as_tensor(request.prompt))) for f in (torch.min, torch.max))
    if low < 0 or high >= known:
        raise InputError(f"a prompt has the token {low if low < 0 else high}; this model knows 0 to {known - 1}")
    eos: Any = request.eos
    if eos is None:
        eos = getattr(getattr(pool.model, "generation_config", None), "eos_token_id", None)
    ends = frozenset(() if eos is None else (eos,) if isinstance(eos, int) else eos)
    return _Row(request, key, ends, torch.Generator().manual_seed(request.seed))


def _prefilled(pool: Pool, rows: Sequence[_Row]) -> Running:
    """A batch of the new rows alone, each with its first token."""
    fresh = Running(pool.model)
    with pool.serving([row.key for row in rows]):
        logits = fresh.prefill([torch.as_tensor(row.request.prompt, dtype=torch.long) for row in rows])
    for row, found in zip(rows, logits, strict=True):
        row.take(found)
    return fresh


def _step(pool: Pool, running: Running, rows: Sequence[_Row]) -> None:
    """One more token for each row."""
    with pool.serving([row.key for row in rows]):
        logits = running.step([row.tokens[-1] for row in rows])
    for row, found in zip(rows, logits, strict=True):
        row.take(found)


def _leave(pool: Pool, running: Running, rows: list[_Row]) -> list[Answer]:
    """The answers of rows that are done, which leave."""
    done = [row for row in rows if row.ended]
    if done:
        running.keep([i for i, row in enumerate(rows) if not row.ended])
        rows[:] = [row for row in rows if not row.ended]
        for row in done:
            _unpin(pool.residents.pins, row.key)
    return [row.answer() for row in done]


def _unpin(pins: Any, key: Key | None) -> None:
    if key is not None:
        pins[key] -= 1
        if not pins[key]:
            del pins[key]
