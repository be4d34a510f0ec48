"""Many adapters in one batch: each row is what it is alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adaptr
import tiny
from adaptr.testing import assert_close, bits_equal, logits
from runtime.pools import CLOSE, NAMES, adapters, alone


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "bloom", "neox"])
def test_each_row_is_what_it_is_alone(kind: str) -> None:
    model = tiny.model(kind)
    found = adapters(model)
    ids = tiny.inputs(kind, batch=len(NAMES))["input_ids"]
    wanted = torch.cat([alone(model, found.get(n), input_ids=ids[i : i + 1]) for i, n in enumerate(NAMES)])
    assert len({tuple(row.flatten()[:5].tolist()) for row in wanted}) == len(NAMES)
    with adaptr.pool(model) as pool, torch.inference_mode():
        for name, one in found.items():
            pool.add(name, one)
        assert_close(logits(pool.forward(NAMES, ids)), wanted, CLOSE)


@settings(max_examples=8, deadline=None)
@given(names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_any_mix_in_any_order(names: list[str | None], seed: int) -> None:
    model = tiny.model("llama")
    found = adapters(model)
    ids = torch.randint(3, tiny.VOCAB, (len(names), 5), generator=torch.Generator().manual_seed(seed))
    wanted = torch.cat([alone(model, found.get(n), input_ids=ids[i : i + 1]) for i, n in enumerate(names)])
    with adaptr.pool(model) as pool, torch.inference_mode():
        for name, one in found.items():
            pool.add(name, one)
        assert_close(logits(pool.forward(names, ids)), wanted, CLOSE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_a_cache(model: Any, made: dict[str, adaptr.Adapter], side: str) -> None:
    """Rows of different lengths, whole and token by token behind a cache."""
    names, lengths = ["four", None, "dora", "ia3"], [3, 7, 5, 6]
    ids, mask = torch.full((4, 7), 3), torch.zeros((4, 7), dtype=torch.long)
    place = [slice(7 - n, 7) if side == "left" else slice(0, n) for n in lengths]
    rows = [torch.randint(3, tiny.VOCAB, (n,), generator=torch.Generator().manual_seed(n)) for n in lengths]
    for i, (at, row) in enumerate(zip(place, rows, strict=True)):
        ids[i, at], mask[i, at] = row, 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with adaptr.pool(model) as pool, torch.inference_mode():
        for name, one in made.items():
            pool.add(name, one)
        whole = pool.forward(names, input_ids=ids, attention_mask=mask, position_ids=positions).logits
        with pool.rows(names):
            past, steps = None, []
            for t in range(7):
                out = model(
                    input_ids=ids[:, t : t + 1],
                    attention_mask=mask[:, : t + 1],
                    position_ids=positions[:, t : t + 1],
                    past_key_values=past,
                    use_cache=True,
                )
                past = out.past_key_values
                steps.append(out.logits)
    for i, (name, at, row) in enumerate(zip(names, place, rows, strict=True)):
        wanted = alone(model, made.get(name or ""), input_ids=row[None])[0]
        assert_close(whole[i, at], wanted, CLOSE)
        assert_close(torch.cat(steps, 1)[i, at], wanted, CLOSE)


def test_a_base_in_half_precision_keeps_the_adapters_own(made: dict[str, adaptr.Adapter]) -> None:
    model = tiny.model("llama").to(torch.bfloat16)
    ids = tiny.inputs("llama")["input_ids"]
    one = made["four"].replace(base=adaptr.Base())
    with adaptr.pool(model) as pool, torch.inference_mode():
        pool.add("four", one)
        found = pool.forward(["four", None], ids).logits
    assert found.dtype is torch.bfloat16
    assert bits_equal(found[1], alone(model, None, input_ids=ids)[1])
    assert_close(found[0].float(), alone(model, one, input_ids=ids)[0].float(), 2e-2)
