"""Prompts behind the embeddings, against a loop that puts the rows there by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adaptr
import tiny
from adaptr import errors
from adaptr.testing import assert_close, shaken

P = 3


def made(model: Any, **config: object) -> adaptr.Adapter:
    return shaken(adaptr.create(model, "prompt", tokens=P, place="embeddings", **config), by=0.5)


def by_hand(model: Any, adapter: adaptr.Adapter, ids: Tensor, mask: Tensor, ahead: int = 0) -> Tensor:
    """Hidden states (batch, tokens + P, d): the rows are put in by a hook, and the mask is longer."""
    rows = adapter.tensors[":P"].expand(len(ids), -1, -1)

    def put(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return torch.cat([output[:, :ahead], rows, output[:, ahead:]], 1)

    base = model.base_model
    hook = base.embeddings.register_forward_hook(put)
    with torch.no_grad():
        found: Tensor = base(input_ids=ids, attention_mask=torch.cat([mask.new_ones(len(ids), P), mask], 1))[0]
    hook.remove()
    return found


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_rows_are_behind_norm_and_positions(name: str, ahead: int) -> None:
    model = tiny.model(name)
    ids = tiny.inputs(name)["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, -3:] = 0
    ids = torch.where(mask.bool(), ids, model.config.pad_token_id or 0)
    adapter = made(model, ahead=ahead)
    wanted = by_hand(model, adapter, ids, mask, ahead)
    with torch.no_grad(), adaptr.attach(model.base_model, adapter):
        found = model.base_model(input_ids=ids, attention_mask=mask)[0]
    assert_close(found[mask.bool()], torch.cat([wanted[:, :ahead], wanted[:, ahead + P :]], 1)[mask.bool()])


def test_a_decoder_generates_the_same_with_a_cache_and_in_a_padded_batch() -> None:
    from transformers import BertConfig, BertLMHeadModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    model = BertLMHeadModel(BertConfig(vocab_size=60, is_decoder=True, max_position_embeddings=40, **sizes)).eval()
    ids = torch.randint(3, 60, (2, 7))
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad(), adaptr.attach(model, made(model)):
        cached = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        assert torch.equal(
            model.generate(ids, attention_mask=torch.ones_like(ids), use_cache=False, **settings), cached
        )
        mask = torch.ones_like(ids)
        mask[1, :3] = 0
        left = torch.where(mask.bool(), ids, 0)
        batch = model.generate(left, attention_mask=mask, **settings)[1, 7:]
        alone = model.generate(ids[1:, 3:], attention_mask=mask[1:, 3:], **settings)[0, 4:]
        assert torch.equal(batch, alone)


def test_it_learns_behind_the_embeddings() -> None:
    model = tiny.model("bert")
    ids = tiny.inputs("bert")["input_ids"]
    with adaptr.train(model, made(model)) as session:
        model(input_ids=ids).logits.square().mean().backward()
        (P_,) = session.parameters()
        assert P_.grad is not None
        assert bool(P_.grad.abs().sum() > 0)


def test_what_embeds_in_no_module_of_its_own_is_refused() -> None:
    for name in ("gpt2", "llama", "t5"):
        model = tiny.model(name)
        with pytest.raises(errors.Unsupported, match=r"needs a module that makes them.*`place` words"):
            adaptr.attach(model, made(model))


def test_texts_that_begin_with_padding_have_no_first_token_to_stand_behind() -> None:
    model = tiny.model("bert")
    ids = tiny.inputs("bert")["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    with (
        adaptr.attach(model, made(model, ahead=1)),
        pytest.raises(errors.Unsupported, match=r"`padding_side` to `right`"),
    ):
        model(input_ids=ids, attention_mask=mask)


def test_what_it_is_elsewhere_it_can_not_be() -> None:
    from adaptr import foreign
    from adaptr.converting.resize import _alike

    model = tiny.model("bert")
    adapter = made(model)
    with pytest.raises(errors.Unsupported, match="does not do what a `p-tuning` can do"):
        _alike(adapter, "p-tuning", None)
    with pytest.raises(errors.Unsupported, match=r"stands elsewhere \(`place`\)"):
        foreign.get("t5x").lost(adapter)
