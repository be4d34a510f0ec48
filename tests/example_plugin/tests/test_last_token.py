"""The laws, on a method that asks where its tokens stand."""

import pytest
import torch
from adaptr_gain.prompt_continued import PromptContinued

import adaptr
import adaptr.testing
from adaptr.testing import logits, shaken, tiny_llama


class TestLastToken(adaptr.testing.Laws):
    method = "last-token"


def test_the_last_token_alone_is_changed_and_a_prompt_is_one_call() -> None:
    model, ids = tiny_llama(), torch.arange(3, 9)[None]
    before = logits(model(ids))
    with adaptr.attach(model, shaken(adaptr.create(model, "last-token"))), torch.no_grad():
        given = model(ids, use_cache=True)
        changed = (logits(given) != before).any(-1)[0]
        assert changed.tolist() == [False] * 5 + [True]
        with pytest.raises(PromptContinued, match="give it in one call"):
            model(ids, past_key_values=given.past_key_values)
