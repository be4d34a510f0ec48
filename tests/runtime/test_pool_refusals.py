"""What can be no row of a batch, and what a pool has no room for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adaptr
import tiny
from adaptr.errors import (
    ContentMismatch,
    NotPossible,
    TargetNotFound,
    Unsupported,
    UsageError,
)
from adaptr.runtime.pool.pages import Pages
from adaptr.testing import assert_close, bits_equal, shaken
from runtime.pools import CLOSE, alone


@pytest.mark.parametrize("method", ["oft", "loreft", "gated-pfeiffer", "prefix", "prompt", "mam"])
def test_what_can_not_be_a_row_is_refused_when_it_is_added(model: Any, method: str) -> None:
    one = adaptr.create(model, method)
    with adaptr.pool(model) as pool:
        with pytest.raises(Unsupported, match=r"can't be one row of a batch|kind `"):
            pool.add("x", one)
        assert "x" not in pool


@pytest.mark.parametrize("method", ["shira", "full"])
def test_a_delta_of_no_low_rank_is_refused(model: Any, method: str) -> None:
    with adaptr.pool(model) as pool:
        pool.add("x", shaken(adaptr.create(model, method)))
        with pytest.raises(NotPossible, match="rank"):
            pool.forward(["x"], tiny.inputs("llama", 1)["input_ids"])
        assert not pool.resident


def test_other_refusals(model: Any, made: dict[str, adaptr.Adapter]) -> None:
    ids = tiny.inputs("llama", 3)["input_ids"]
    four = made["four"]
    whole = four.replace(tensors={**four.tensors, "model.norm.weight:=": torch.ones(tiny.WIDTH)})
    moved = four.replace(base=adaptr.Base(content="sha256:" + "0" * 64))
    with adaptr.pool(model) as pool:
        with pytest.raises(Unsupported, match=r"replaces `model.norm.weight` as a whole"):
            pool.add("whole", whole)
        with pytest.raises(Unsupported, match="kind `embedding`"):
            pool.add("table", adaptr.create(model, "lora", "embed"))
        with pytest.raises(TargetNotFound):
            pool.add("gpt2", adaptr.create(tiny.model("gpt2"), "lora"))
        pool.add("moved", moved)
        with pytest.raises(ContentMismatch):
            pool.forward(["moved"], ids[:1])
        pool.add("four", four)
        with pytest.raises(UsageError, match="called `four` already"):
            pool.add("four", four)
        with pytest.raises(UsageError, match=r"no adapter `fuor`; did you mean `four`"):
            pool.forward(["fuor"], ids)
        with pytest.raises(UsageError, match=r"wanted \(2, tokens, features\)"):
            pool.forward(["four", None], ids)
        with pytest.raises(UsageError, match="another batch"), pool.rows(["four"]), pool.rows([None]):
            pass
        for call in (lambda: pool.update("fuor"), lambda: pool.remove("fuor")):
            with pytest.raises(UsageError, match="no adapter `fuor`"):
                call()
    with pytest.raises(UsageError, match="holds nothing"):
        adaptr.pool(model, slots=0)


def test_a_layer_that_does_not_see_rows_is_an_error() -> None:
    """OPT's feed-forward gets the tokens of all rows as one list."""
    model = tiny.model("opt")
    with adaptr.pool(model) as pool:
        pool.add("x", adaptr.create(model, "lora", "mlp.up"))
        with pytest.raises(UsageError, match=r"shape \(14, 32\), wanted \(2, tokens, features\)"):
            pool.forward(["x", None], tiny.inputs("opt")["input_ids"])


def test_eviction_goes_by_last_use_and_a_batch_too_large_is_an_error(model: Any) -> None:
    ids = tiny.inputs("llama", 3)["input_ids"]
    found = {f"a{i}": shaken(adaptr.create(model, "lora", r=i + 1, seed=i), i) for i in range(6)}
    with adaptr.pool(model, slots=3) as pool, torch.inference_mode():
        for name, one in found.items():
            pool.add(name, one)
        for names in (["a0", "a1", "a2"], ["a0", "a3", "a0"], ["a4", "a0", "a5"], ["a1", "a2", "a3"]):
            out = pool.forward(names, ids).logits
            for i, name in enumerate(names):
                assert_close(out[i], alone(tiny.model("llama"), found[name], input_ids=ids[i : i + 1])[0], CLOSE)
        assert pool.resident == ("a1", "a2", "a3")
        pool.prefetch(["a4", "a5"])
        assert pool.resident == ("a3", "a4", "a5")
        with pytest.raises(UsageError, match=r"no room for `a\d` .* the pool holds 3"):
            pool.forward(["a0", "a1", "a2", "a3"], tiny.inputs("llama", 4)["input_ids"])
    with adaptr.pool(model, memory=1 << 14) as pool:
        pool.add("a5", found["a5"])
        with pytest.raises(UsageError, match="more `slots` or `memory`"):
            pool.forward(["a5"], ids[:1])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_pages_come_back(data: st.DataObject) -> None:
    """Runs of pages never overlap, and all of them are found again."""
    pages = Pages(40, 8, torch.float32, torch.device("cpu"))
    held: list[tuple[Any, torch.Tensor]] = []
    for _ in range(data.draw(st.integers(1, 20))):
        if held and data.draw(st.booleans()):
            run, wanted = held.pop(data.draw(st.integers(0, len(held) - 1)))
            into = pages.matrices(1, 3, 20)[0]
            pages.read(run, into)
            assert bits_equal(into[:2, :20], wanted)
            assert not into[2].any()
            pages.give(run)
        elif pages.free >= 6:
            run, wanted = pages.take(6), torch.rand(2, 20)
            pages.write(run, wanted)
            held.append((run, wanted))
        used = [int(i) for run, _ in held for i in run]
        assert len(set(used)) == len(used)
        assert pages.free == 40 - len(used)
