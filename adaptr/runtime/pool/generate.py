"""Continuous generation: requests of different adapters and lengths join and leave a running batch between steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adaptr.errors import AdapterTooLarge, AdaptrError, InputError, NonFinite, NoRoom, UsageError, shown
from adaptr.runtime.pool.draw import drawn
from adaptr.runtime.pool.queue import Numbered, Queue, Row
from adaptr.runtime.pool.request import Answer, Request, ends, whole
from adaptr.runtime.pool.residents import Key
from adaptr.runtime.pool.running import Running

if TYPE_CHECKING:
    from adaptr.runtime.pool.live import Pool


def generate(pool: Pool, requests: Iterable[Request], batch: int) -> Iterator[Answer]:
    """See `Pool.generate`."""
    return (answer for _, answer in _numbered(pool, requests, batch))


def in_order(pool: Pool, requests: Iterable[Request], batch: int) -> Iterator[Answer]:
    """See `Pool.answers`."""
    early: dict[int, Answer] = {}
    following = 0
    for number, answer in _numbered(pool, requests, batch):
        early[number] = answer
        while following in early:
            yield early.pop(following)
            following += 1


def _numbered(pool: Pool, requests: Iterable[Request], batch: int) -> Iterator[Numbered]:
    if whole("batch", batch) < 1:
        raise UsageError(f"a batch of {batch} rows answers nothing", hint="give it one at least")
    running, rows, waiting = Running(pool.model), list[Row](), Queue(requests)
    pins = pool.residents.pins
    try:
        while rows or waiting:
            here = len(rows)
            yield from _admit(pool, running, waiting, rows, batch)
            with torch.inference_mode():  # never around a yield: the caller's code runs there
                done = _join(pool, running, rows, rows[here:])
                done += _leave(pool, running, rows)
            yield from done
            if rows:
                with torch.inference_mode():
                    _step(pool, running, rows)
                    done = _leave(pool, running, rows)
                yield from done
    finally:
        for row in rows:
            _unpin(pins, row.key)


def _admit(pool: Pool, running: Running, waiting: Queue, rows: list[Row], batch: int) -> list[Numbered]:
    """Let requests join `rows` as long as there is a row and room for their adapters beside those that run.

    The answers are to those that never can: what is wrong with one is no matter of the others.
    """
    refused: list[Numbered] = []
    if waiting.stuck and len(rows) >= waiting.stuck:
        return refused  # trying again would read its files at each step
    waiting.stuck = 0
    while len(rows) < batch and waiting:
        number, request = waiting.first()
        try:
            rows.append(_joined(pool, running, number, request))
        except AdaptrError as error:
            if rows and isinstance(error, NoRoom) and not isinstance(error, AdapterTooLarge):
                waiting.stuck = len(rows)
                break  # there may be some when a row leaves
            refused.append((number, Answer(request, (), "refused", 0, error)))
        waiting.pop()
    return refused


def _joined(pool: Pool, running: Running, number: int, request: Request) -> Row:
    """A row for a request, its adapter on the device and pinned there."""
    if not isinstance(request, Request):
        raise UsageError("a request", got=shown(request), want="an `adaptr.Request`")
    key = pool.key(request.adapter)
    row = _row(pool, running, number, request, key)
    if key is not None:
        pool.load([key])
        pool.residents.pins[key] += 1
    return row


def _row(pool: Pool, running: Running, number: int, request: Request, key: Key | None) -> Row:
    """Raises `InputError` for tokens that the model does not have, or more than it has positions for."""
    known = pool.model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    low, high = (int(f(torch.as_tensor(request.prompt))) for f in (torch.min, torch.max))
    if low < 0 or high >= known:
        raise InputError(
            "a prompt",
            verb="has",
            got=f"the token {(low if low < 0 else high)}",
            want=f"0 to {known - 1}, which this model knows",
            hint="encode it with this model's tokenizer",
        )
    length, most = len(request.prompt), running.positions
    if most is not None and length > most:
        raise InputError(
            "a prompt",
            verb="has",
            got=f"{length} tokens",
            want=f"at most {most}, as many as this model has positions for",
            hint="give a shorter one",
        )
    eos: Any = request.eos
    if eos is None:
        eos = getattr(getattr(pool.model, "generation_config", None), "eos_token_id", None)
    draws = torch.Generator().manual_seed(int(request.seed))
    # the last token is said and not read, so it needs no position
    return Row(number, request, key, ends(eos), draws, None if most is None else most - length + 1)


def _join(pool: Pool, running: Running, rows: list[Row], new: Sequence[Row]) -> list[Numbered]:
    """Let `new`, the last of `rows`, join what runs. Where they can't together, each alone; answers to the rest."""
    try:
        if new:
            running.join(_prefilled(pool, new))
        return []
    except AdaptrError as error:
        if len(new) > 1:
            return [refused for row in new for refused in _join(pool, running, rows, [row])]
        rows[:] = [row for row in rows if row is not new[0]]
        _unpin(pool.residents.pins, new[0].key)
        return [(new[0].number, Answer(new[0].request, (), "refused", 0, error))]


def _prefilled(pool: Pool, rows: Sequence[Row]) -> Running:
    """A batch of the new rows alone, each with its first token."""
    fresh = Running(pool.model)
    with pool.serving([row.key for row in rows]):
        logits = fresh.prefill([torch.as_tensor(row.request.prompt, dtype=torch.long) for row in rows])
    _take(rows, logits)
    return fresh


def _step(pool: Pool, running: Running, rows: Sequence[Row]) -> None:
    """One more token for each row."""
    with ExitStack() as served:
        try:
            served.enter_context(pool.serving([row.key for row in rows]))
        except AdaptrError:
            if not _lost(pool, rows):
                raise
            return  # those leave, and the others go on without them
        logits = running.step([row.tokens[-1] for row in rows])
    _take(rows, logits)


def _lost(pool: Pool, rows: Sequence[Row]) -> bool:
    """Whether there are rows whose adapter had to be made again and could not; they end with the reason."""
    for row in rows:
        try:
            pool.load([key for key in (row.key,) if key is not None])
        except AdaptrError as error:
            row.error = error
    return any(row.error is not None for row in rows)


def _take(rows: Sequence[Row], logits: Tensor) -> None:
    """Each row's next token from its logits, `logits` (rows, vocabulary); or its end, where they are no numbers."""
    most, likeliest = logits.max(1)  # NaN if one is
    for row, found, finite, best in zip(rows, logits, most.isfinite().tolist(), likeliest.tolist(), strict=True):
        if not finite:
            who = "the base" if row.request.adapter is None else f"adapter `{row.request.adapter}`"
            row.error = NonFinite(
                f"after {len(row.tokens)} tokens {who} says NaN or infinity for the next one",
                hint="use a wider dtype, or look at the adapter with `adaptr inspect`",
            )
        else:
            row.tokens.append(drawn(found, row.request, row.draws) if row.request.temperature else best)


def _leave(pool: Pool, running: Running, rows: list[Row]) -> list[Numbered]:
    """The answers of rows that are done, which leave."""
    done = [row for row in rows if row.ended]
    if done:
        running.keep([i for i, row in enumerate(rows) if not row.ended])
        rows[:] = [row for row in rows if not row.ended]
        for row in done:
            _unpin(pool.residents.pins, row.key)
    return [row.answer() for row in done]


def _unpin(pins: dict[Key, int], key: Key | None) -> None:
    if key is not None:
        pins[key] -= 1
        if not pins[key]:
            del pins[key]
