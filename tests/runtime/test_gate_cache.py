"""Gates with a cache and padding say what they say without."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import (
    Unsupported,
)
from adaptr.testing import assert_close
from runtime.gates import expert, gate


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3}, {"cache_implementation": "static"}, {"do_sample": True, "num_return_sequences": 3}],
    ids=str,
)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral", "gemma3"])
def test_with_a_cache_it_says_the_same(architecture: str, options: dict[str, Any]) -> None:
    if architecture == "gpt2" and "cache_implementation" in options:
        pytest.skip("GPT-2 in transformers has no static cache of its own")
    model = tiny.model(architecture)
    model.generation_config.eos_token_id = None
    children = {n: expert(model, i, targets=["attn.o", "mlp.down"], r=3) for i, n in enumerate("ab", 1)}
    ids = torch.tensor([[5, 9, 11, 3, 7], [8, 4, 6, 12, 9]])
    mask = torch.ones_like(ids)
    with adaptr.attach(model, gate(model, children=children)):

        def generate(**more: Any) -> torch.Tensor:
            torch.manual_seed(0)
            given = {"attention_mask": mask, "max_new_tokens": 12, "min_new_tokens": 12, **options, **more}
            return model.generate(ids, **given)

        with_cache = generate(use_cache=True)
        options = {k: v for k, v in options.items() if k != "cache_implementation"}
        assert torch.equal(with_cache, generate(use_cache=False))
    assert not torch.equal(with_cache, model.generate(ids, attention_mask=mask, max_new_tokens=12, min_new_tokens=12))


def test_a_cache_that_goes_back_goes_back_for_both() -> None:
    model = tiny.model("llama")
    ids = tiny.inputs("llama")["input_ids"]
    with torch.no_grad(), adaptr.attach(model, gate(model)):
        whole = model(ids, use_cache=False).logits
        first = model(ids[:, :4])  # the model makes the cache
        cache = copy.deepcopy(first.past_key_values)
        model(torch.full_like(ids[:, :2], 9), past_key_values=cache)
        cache.crop(-2)
        rest = model(ids[:, 4:], past_key_values=cache).logits
        assert_close(torch.cat([first.logits, rest], dim=1), whole)


def test_a_cache_that_the_gate_has_not_seen_is_refused() -> None:
    model = tiny.model("llama")
    ids = tiny.inputs("llama")["input_ids"]
    cache = model(ids[:, :4]).past_key_values
    with adaptr.attach(model, gate(model)), pytest.raises(Unsupported, match="4 tokens that this adapter has not seen"):
        model(ids[:, 4:], past_key_values=cache)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("method", ["xlora", "arrow", "lora-soups"])
def test_padding_changes_nothing(side: str, method: str) -> None:
    model = tiny.model("llama")
    ids = tiny.inputs("llama")["input_ids"]
    with torch.no_grad(), adaptr.attach(model, gate(model, method)):
        alone = model(ids[:1, :4]).logits[0]
        padding = torch.zeros(3, dtype=torch.long)
        row = torch.cat([padding, ids[0, :4]] if side == "left" else [ids[0, :4], padding])
        batch = torch.stack([row, ids[1]])
        mask = (torch.arange(7) >= 3 if side == "left" else torch.arange(7) < 4).long()
        mask = torch.stack([mask, torch.ones(7, dtype=torch.long)])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        found = model(batch, attention_mask=mask, position_ids=positions).logits[0]
        assert_close(found[3:] if side == "left" else found[:4], alone)
