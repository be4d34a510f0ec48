"""Rows of a batch on shelves: each has its own factors, and those that stay are not read again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import adaptr
import tiny
from adaptr.runtime.pool.pages import Pages
from adaptr.runtime.pool.seats import Had, plan, size
from adaptr.testing import assert_close, shaken

RANKS = {("a", 1): 1, ("b", 1): 4, ("b", 2): 8, ("c", 1): 9, ("d", 1): 16, ("e", 1): 70, None: 0}
ROWS = st.lists(st.sampled_from(list(RANKS)), min_size=1, max_size=20)


@given(st.lists(ROWS, min_size=1, max_size=6))
def test_each_row_sits_once_among_its_like_and_nobody_moves_without_need(batches: list[list[Any]]) -> None:
    had: list[Had] = []
    for rows in batches:
        ranks = [RANKS[key] for key in rows]
        found = plan(ranks, had, rows, torch.device("cpu"))
        assert sorted(found.order) == list(range(len(rows)))
        assert [i for seating in found.seatings for i in seating.rows] == list(found.order)[: sum(r > 0 for r in ranks)]
        for seating in found.seatings:
            count = len(seating.rows)
            before = had[seating.shelf][2][:count] if seating.shelf is not None else ()
            assert [rows[i] for i in seating.rows] == list(seating.keys[:count])
            assert {size(ranks[i]) for i in seating.rows} == {size(seating.rank)}
            assert seating.places >= count
            assert seating.rank >= max(ranks[i] for i in seating.rows)
            stay = Counter(before) & Counter(seating.keys[:count])
            assert len(seating.fresh) == count - stay.total()
            assert all(before[n] == seating.keys[n] for n in range(len(before)) if n not in seating.fresh)
        if found.there is not None and found.back is not None:
            assert found.there[found.back].tolist() == list(range(len(rows)))
        had = [(seating.rank, seating.places, seating.keys) for seating in found.seatings]


@pytest.fixture
def pool() -> Any:
    model = tiny.model("llama")
    with adaptr.pool(model) as pool:
        for i, r in enumerate((1, 3, 4, 9, 12, 20)):
            pool.add(f"a{i}", shaken(adaptr.create(model, "lora", r=r, seed=i), i))
        pool.add("dora", shaken(adaptr.create(model, "dora", ["attn.q"], r=2), 9))
        pool.add("ia3", shaken(adaptr.create(model, "ia3"), 8))
        yield pool


COMPOSITIONS = [
    ["a0", "a1", None, "a3"],
    ["a0", "a3", None, "a1"],
    ["a5", "a3", "a4", "a1"],
    ["a5", "dora", "a4", "a4", "ia3"],
    ["a4"],
    [None, None],
    ["a4", "a2", "ia3", "a0", "a5", "a1", "a3"],
    ["a0", "a2", "ia3", "a0", "a5", "a1", "a3"],
]


def test_a_batch_that_changes_is_what_it_is_from_nothing(pool: Any) -> None:
    with torch.inference_mode():
        once = {name: one(pool, name) for name in (*pool, None)}
        for names in (*COMPOSITIONS, *reversed(COMPOSITIONS)):
            out = pool.forward(names, tokens(len(names))).logits
            for i, name in enumerate(names):
                assert_close(out[i], once[name], 1e-5)
    with torch.no_grad():  # what was made in inference mode is written over outside of it
        assert_close(pool.forward(["a1", None], tokens(2)).logits[0], once["a1"], 1e-5)


def test_a_row_that_joins_is_all_that_is_read(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    real = Pages.read
    monkeypatch.setattr(Pages, "read", lambda *args: read.append(args) or real(*args))
    with torch.inference_mode():
        pool.forward(["a3", "a1", "a4", None, "a2"], tokens(5))
        layers = len(read) // 4
        for names, wanted in (
            (["a2", "a4", "a3", "a1"], 0),
            (["a4", "a3", None, "a1", "a0"], 1),
            (["a0", "a1", "a3"], 0),
        ):
            read.clear()
            pool.forward(names, tokens(len(names)))
            assert len(read) == wanted * layers


def test_a_backward_after_the_next_batch_finds_what_it_needs(pool: Any) -> None:
    embedded = pool.model.get_input_embeddings()(tokens(2)).detach()
    wanted = []
    for names in (["a3", "a4"], ["a4", "a3"]):
        x = embedded.clone().requires_grad_()
        pool.forward(names, inputs_embeds=x).logits.square().sum().backward()
        wanted.append(x.grad)
    both = [embedded.clone().requires_grad_() for _ in wanted]
    losses = [
        pool.forward(names, inputs_embeds=x).logits.square().sum()
        for names, x in zip((["a3", "a4"], ["a4", "a3"]), both, strict=True)
    ]
    sum(losses[1:], losses[0]).backward()  # type: ignore[no-untyped-call]
    for x, grad in zip(both, wanted, strict=True):
        assert_close(x.grad, grad, 1e-6)


def tokens(rows: int) -> torch.Tensor:
    return torch.arange(3, 9).expand(rows, -1)


def one(pool: Any, name: str | None) -> torch.Tensor:
    found: torch.Tensor = pool.forward([name], tokens(1)).logits[0]
    return found.clone()
