"""What is inserted behind modules, as rows of a batch: each is what it is alone, computed for its own rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.testing import assert_close, bits_equal, logits, shaken
from runtime.pools import CLOSE, alone, greedy, prompts

MIX: dict[str, tuple[str, dict[str, Any]]] = {
    "houlsby": ("houlsby", {"m": 8}),
    "wide": ("houlsby", {"m": 12, "activation": "tanh"}),
    "pfeiffer": ("pfeiffer", {"m": 8}),
    "sum": ("pfeiffer", {"m": 6, "residual": True, "normed": True}),
    "parallel": ("parallel", {"m": 8}),
    "compacter": ("compacter", {}),
    "adamix": ("adamix", {"m": 8}),
    "krona-b": ("krona-b", {}),
    "lora": ("lora", {"r": 3}),
}
NAMES = [*MIX, None, "houlsby"]


def made(model: Any, without: tuple[str, ...] = ()) -> dict[str, Adapter]:
    given = ((name, method, plugins.method(method), config) for name, (method, config) in MIX.items())
    return {
        name: shaken(adaptr.create(model, method, seed=i, **{**own.small, **config}), i)
        for i, (name, method, own, config) in enumerate(given)
        if name not in without
    }


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "t5"])
def test_each_row_is_what_it_is_alone(kind: str) -> None:
    model = tiny.model(kind)
    found = made(model, ("lora",) if kind == "bert" else ())  # of its pooler, which sees no tokens
    names = [name for name in NAMES if name is None or name in found]
    ids = tiny.inputs(kind, batch=len(names))
    rows = [{key: value[i : i + 1] for key, value in ids.items()} for i in range(len(names))]
    wanted = torch.cat([alone(model, found.get(name), **row) for name, row in zip(names, rows, strict=True)])
    assert len({tuple(row.flatten()[:3].tolist()) for row in wanted}) == len(names)
    before = alone(model, None, **ids)
    with adaptr.pool(model) as pool, torch.inference_mode():
        for name, one in found.items():
            pool.add(name, one)
        assert_close(logits(pool.forward(names, **ids)), wanted, CLOSE)
        assert bits_equal(logits(pool.forward([None] * len(names), **ids)), before)
    assert bits_equal(alone(model, None, **ids), before)
    assert not any("adapters" in name for name, _ in model.named_modules())


def test_a_batch_of_one_adapter_is_that_adapter_bit_by_bit() -> None:
    model, ids = tiny.model("llama"), tiny.inputs("llama", batch=4)["input_ids"]
    for name, one in made(model, ("lora",)).items():
        with adaptr.pool(model) as pool, torch.inference_mode():
            pool.add(name, one)
            assert bits_equal(pool.forward([name] * 4, ids).logits, alone(model, one, input_ids=ids)), name


def test_a_formula_sees_its_own_rows_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tiny.model("llama"), tiny.inputs("llama", batch=5)["input_ids"]
    seen: list[int] = []
    own = plugins.method("pfeiffer")
    branch = type(own).branch
    monkeypatch.setattr(type(own), "branch", lambda self, h, *given: seen.append(len(h)) or branch(self, h, *given))
    found = made(model)
    with adaptr.pool(model) as pool, torch.inference_mode():
        for name in ("pfeiffer", "lora"):
            pool.add(name, found[name])
        pool.forward([None, "pfeiffer", "lora", "pfeiffer", None], ids)
    assert seen == [2, 2]  # at each of two blocks


def test_requests_join_and_leave_and_what_is_dropped_comes_back() -> None:
    """Two slots for four adapters, with a cache, each text as it is alone."""
    model = tiny.model("llama")
    found = {name: one for name, one in made(model).items() if name in {"houlsby", "sum", "parallel", "lora"}}
    texts = prompts(8)
    names = [list(found)[i % 4] for i in range(8)]
    requests = [adaptr.Request(name, text, max_new_tokens=4) for text, name in zip(texts, names, strict=True)]
    with adaptr.pool(model, slots=2) as pool:
        for name, one in found.items():
            pool.add(name, one)
        answers = [answer.tokens for answer in pool.answers(requests, batch=2)]
        assert pool.residents.evictions
    assert [list(map(int, one)) for one in answers] == [
        greedy(model, found[name], text, 4) for text, name in zip(texts, names, strict=True)
    ]


def test_two_at_one_place_are_in_their_order() -> None:
    """A stack in one row, the other way round in another, and one of the two alone in a third."""
    model, ids = tiny.model("llama"), tiny.inputs("llama", batch=3)["input_ids"]
    found = made(model)
    orders = [("houlsby", "sum"), ("sum", "houlsby")]
    stacked = {}
    for one, two in orders:
        with adaptr.stack(model, {one: found[one], two: found[two]}) as stack:
            stacked[f"{one}, {two}"] = stack.adapted()
    rows = {**stacked, "sum": found["sum"]}
    wanted = [alone(model, rows[name], input_ids=ids[:1]) for name in rows]
    assert all(float((one - wanted[0]).abs().max()) > 1e-3 for one in wanted[1:])
    with adaptr.pool(model) as pool, torch.inference_mode():
        for name, one in rows.items():
            pool.add(name, one)
        assert_close(logits(pool.forward([*rows], ids[:1].expand(3, -1))), torch.cat(wanted), CLOSE)
