"""What a model puts out with a prompt on it: all of what is of a whole text, and of tokens the text's alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import errors
from adaptr.testing import assert_close, shaken


def made(model: Any, **config: object) -> adaptr.Adapter:
    return shaken(adaptr.create(model, "prompt", tokens=3, **config), by=0.5)


def test_a_classifier_of_the_last_token_needs_left_padding() -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    model = LlamaForSequenceClassification(LlamaConfig(**tiny.GROUPED)).eval()
    ids = tiny.inputs("llama")["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, -3:] = 0
    with adaptr.attach(model, made(model)):
        for rows in (slice(None), slice(1, 2)):
            with pytest.raises(errors.Unsupported, match="left padding"):
                model(input_ids=ids[rows], attention_mask=mask[rows])


@pytest.mark.parametrize("place", ["words", "embeddings"])
def test_as_many_labels_as_there_are_tokens_are_all_there(place: str) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 6, "intermediate_size": 4, "num_attention_heads": 2, "num_hidden_layers": 1}
    model = BertForSequenceClassification(BertConfig(vocab_size=9, num_labels=6, **sizes)).eval()
    one, other = (torch.tensor([[1, 2, 3, *[0] * more]]) for more in (0, 2))
    with adaptr.attach(model, made(model, place=place)):
        short = model(input_ids=one, labels=torch.ones(1, 6), output_hidden_states=True)
        long = model(input_ids=other, attention_mask=(other > 0).long())
        assert short.hidden_states[-1].shape == (1, 3, 6)
        assert model.bert(input_ids=one).pooler_output.shape == (1, 6)
    assert short.logits.shape == (1, 6)
    assert_close(short.logits, long.logits)


def test_a_text_that_ends_before_the_place_of_a_prompt_is_refused() -> None:
    model, ids = tiny.model("llama"), tiny.inputs("llama")["input_ids"]
    with adaptr.attach(model, made(model, ahead=2)):
        assert model(input_ids=ids[:, :2]).logits.shape[1] == 2
        with pytest.raises(errors.Unsupported, match="behind the first 2 tokens of the text, and a text has 1 here"):
            model(input_ids=ids[:, :1])


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("keep", [3, 99, torch.tensor([0, 2, 4]), torch.tensor([-1])])
def test_the_logits_that_are_kept_are_those_of_the_texts_tokens(keep: int | torch.Tensor, ahead: int) -> None:
    model, ids = tiny.model("llama"), tiny.inputs("llama")["input_ids"]
    with adaptr.attach(model, made(model, ahead=ahead)), torch.no_grad():
        every = model(input_ids=ids).logits
        wanted = every[:, keep] if isinstance(keep, torch.Tensor) else every[:, -keep:]
        assert_close(model(input_ids=ids, logits_to_keep=keep).logits, wanted)


def test_a_tuple_does_not_say_what_is_of_tokens() -> None:
    model, ids = tiny.model("bert"), tiny.inputs("bert")["input_ids"]
    with adaptr.attach(model, made(model)), pytest.raises(errors.Unsupported, match="leave out `return_dict=False`"):
        model(input_ids=ids, return_dict=False)
