"""Soft prompts and prefixes against reference loops: caches, padding, beams, positions."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import DynamicCache

import adaptr
import tiny
from adaptr import errors
from adaptr.testing import assert_close, shaken

P = 3
DECODERS = ["llama", "gpt2", "opt", "neox"]


def made(model: Any, method: str, by: float = 0.5, **config: object) -> adaptr.Adapter:
    sizes = {} if method == "lora" else {"tokens": P}
    return shaken(adaptr.create(model, method, **sizes, **config), by=by)


def padded(ids: torch.Tensor, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Two rows, the second three tokens shorter."""
    mask = torch.ones_like(ids)
    ids = ids.clone()
    if side == "left":
        ids[1] = torch.cat([ids.new_zeros(3), ids[1, 3:]])
        mask[1, :3] = 0
    else:
        ids[1, -3:], mask[1, -3:] = 0, 0
    return ids, mask


def generated(model: Any, ids: torch.Tensor, mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
    mask = torch.ones_like(ids) if mask is None else mask
    with torch.no_grad():
        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=6, min_new_tokens=6, do_sample=False, pad_token_id=0, **kwargs
        )
    return out[:, ids.shape[1] :]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("method", ["prompt", "prefix", "lora"])
def test_generating_with_and_without_cache_in_a_padded_batch_and_with_beams(name: str, method: str) -> None:
    model = tiny.model(name)
    ids = tiny.inputs(name)["input_ids"]
    plain = model(input_ids=ids).logits
    with adaptr.attach(model, made(model, method, by=1.0)):
        cached = generated(model, ids)
        assert not torch.equal(model(input_ids=ids).logits, plain)
        assert torch.equal(generated(model, ids, use_cache=False), cached)
        left, mask = padded(ids, "left")
        batch = generated(model, left, mask)
        assert torch.equal(batch[:1], generated(model, ids[:1]))
        assert torch.equal(batch[1:], generated(model, ids[1:, 3:]))
        assert torch.equal(generated(model, ids, num_beams=3), generated(model, ids, num_beams=3, use_cache=False))
        if method == "prompt":
            with pytest.raises(errors.Unsupported, match="static cache"):
                generated(model, ids, cache_implementation="static")
        else:
            assert torch.equal(generated(model, ids, cache_implementation="static"), cached)


@pytest.mark.parametrize("name", DECODERS)
def test_a_prompt_is_embeddings_in_front(name: str) -> None:
    model = tiny.model(name)
    ids = tiny.inputs(name)["input_ids"]
    adapter = made(model, "prompt")
    front = torch.cat([adapter.tensors[":P"].expand(2, -1, -1), model.get_input_embeddings()(ids)], dim=1)
    with torch.no_grad():
        wanted = model(inputs_embeds=front).logits[:, P:]
        with adaptr.attach(model, adapter):
            assert_close(model(input_ids=ids).logits, wanted)
            out = model(input_ids=ids, labels=ids)
            assert out.logits.shape[1] == ids.shape[1]
            assert bool(out.loss.isfinite())


def test_answers_are_where_they_are_behind_the_rows() -> None:
    from transformers import BertConfig, BertForQuestionAnswering

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 4, "num_hidden_layers": 1}
    model = BertForQuestionAnswering(BertConfig(vocab_size=50, **sizes)).eval()
    ids, at = torch.randint(3, 50, (2, 9)), torch.tensor([0, 4])
    for ahead in (0, 1):
        adapter = made(model, "prompt", ahead=ahead)
        words = model.get_input_embeddings()(ids)
        front = torch.cat([words[:, :ahead], adapter.tensors[":P"].expand(2, -1, -1), words[:, ahead:]], 1)
        behind = torch.tensor([0 if ahead else P, 4 + P])
        with torch.no_grad():
            wanted = model(inputs_embeds=front, start_positions=behind, end_positions=behind)
            with adaptr.attach(model, adapter):
                assert_close(model(ids, start_positions=at, end_positions=at).loss, wanted.loss)


def test_roberta_counts_positions_from_behind_its_padding() -> None:
    model = tiny.model("roberta")
    ids = tiny.inputs("roberta")["input_ids"]
    adapter = made(model, "prompt")
    front = torch.cat([adapter.tensors[":P"].expand(2, -1, -1), model.get_input_embeddings()(ids)], dim=1)
    with torch.no_grad():
        wanted = model(inputs_embeds=front).logits
        with adaptr.attach(model, adapter):
            assert_close(model(input_ids=ids).logits, wanted)


@pytest.mark.parametrize("method", ["prompt", "prefix"])
@pytest.mark.parametrize("name", ["bert", "t5", "bart"])
def test_a_padded_row_is_the_row_alone(name: str, method: str) -> None:
    model = tiny.model(name)
    given = tiny.inputs(name)
    ids, mask = padded(given["input_ids"], "right")
    rest = {k: v for k, v in given.items() if k != "input_ids"}
    with torch.no_grad(), adaptr.attach(model, made(model, method)):
        both = model(input_ids=ids, attention_mask=mask, **rest).logits
        alone = model(input_ids=ids[1:, :-3], attention_mask=mask[1:, :-3], **{k: v[1:] for k, v in rest.items()})
    assert_close(both[1:], alone.logits)


@pytest.mark.parametrize("method", ["prompt", "prefix", "mam"])
@pytest.mark.parametrize("name", [*DECODERS, "mistral", "qwen2", "gemma2", "gemma3", "mixtral", "gpt-oss"])
def test_a_left_padded_row_is_the_row_alone(name: str, method: str) -> None:
    """In a plain forward, in one that goes on from its cache, and without any padding."""
    model = tiny.model(name)
    ids, mask = padded(tiny.inputs(name)["input_ids"], "left")
    more = torch.tensor([[7], [8]])
    adapter = shaken(adaptr.create(model, method, **({"m": 8} if method == "mam" else {"tokens": P})))
    with torch.no_grad(), adaptr.attach(model, adapter):
        both, alone = model(ids, attention_mask=mask, use_cache=True), model(ids[1:, 3:], use_cache=True)
        assert_close(both.logits[1:, 3:], alone.logits)
        assert_close(both.logits[:1], model(ids[:1]).logits)
        longer = torch.cat([mask, mask.new_ones(2, 1)], 1)
        both = model(more, attention_mask=longer, past_key_values=both.past_key_values)
        assert_close(both.logits[1:], model(more[1:], past_key_values=alone.past_key_values).logits)


@pytest.mark.parametrize("name", ["bert", "roberta", "albert"])
def test_a_left_padded_row_of_a_backbone_called_alone(name: str) -> None:
    model = tiny.model(name)
    ids, mask = padded(tiny.inputs(name)["input_ids"], "left")
    with torch.no_grad(), adaptr.attach(model, made(model, "prefix")):
        both = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        alone = model.base_model(input_ids=ids[1:, 3:]).last_hidden_state
    assert_close(both[1:, 3:], alone)


def test_positions_that_are_given_stay() -> None:
    model = tiny.model("llama")
    ids, mask = padded(tiny.inputs("llama")["input_ids"], "left")
    given = torch.arange(7).expand(2, -1) + 5
    with torch.no_grad(), adaptr.attach(model, made(model, "prefix")):
        wanted = model(ids, position_ids=given).logits[:1]
        assert_close(model(ids, mask, given).logits[:1], wanted)
        assert not torch.allclose(model(ids, mask).logits[:1], wanted)


def test_a_prefix_that_is_gone_leaves_positions_alone() -> None:
    model = tiny.model("gpt2")
    ids, mask = padded(tiny.inputs("gpt2")["input_ids"], "left")
    with torch.no_grad():
        before = model(ids, attention_mask=mask).logits
        with adaptr.attach(model, made(model, "prefix")):
            assert not torch.equal(model(ids, attention_mask=mask).logits, before)
        assert torch.equal(model(ids, attention_mask=mask).logits, before)
        assert not model.transformer._forward_pre_hooks


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_two_stacks_generate(method: str) -> None:
    model = tiny.model("t5")
    ids, mask = padded(tiny.inputs("t5")["input_ids"], "right")
    with torch.no_grad(), adaptr.attach(model, made(model, method, by=1.0)):
        settings = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
        cached = model.generate(ids, attention_mask=mask, **settings)
        assert torch.equal(model.generate(ids, attention_mask=mask, use_cache=False, **settings), cached)
        beams = model.generate(ids, attention_mask=mask, num_beams=3, **settings)
        assert torch.equal(model.generate(ids, attention_mask=mask, num_beams=3, use_cache=False, **settings), beams)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5", "neox"])
def test_a_prefix_is_the_same_in_both_implementations(name: str) -> None:
    model = tiny.model(name)
    given = tiny.inputs(name)
    ids, mask = padded(given.pop("input_ids"), "right")
    adapter = made(model, "prefix")
    outputs = []
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        with torch.no_grad(), adaptr.attach(model, adapter):
            outputs += [model(input_ids=ids, **given).logits, model(input_ids=ids, attention_mask=mask, **given).logits]
        assert model.config._attn_implementation == implementation
    assert_close(outputs[2], outputs[0])
    valid = mask.bool() if outputs[1].shape[:2] == mask.shape and name not in {"bert", "t5"} else slice(None)
    assert_close(outputs[3][valid], outputs[1][valid])


def through_the_cache(model: Any, adapter: adaptr.Adapter, ids: torch.Tensor, first: int) -> torch.Tensor:
    """The reference: the prefix as a filled cache, text at positions `first`, `first` + 1, ..."""
    batch, length = ids.shape
    layers = [adapter.at(path) for path in adapter.targets]
    pairs = [(t["K"].expand(batch, -1, -1, -1).clone(), t["V"].expand(batch, -1, -1, -1).clone()) for t in layers]
    positions = torch.arange(first, first + length).expand(batch, -1)
    mask = torch.ones(batch, P + length, dtype=torch.long)
    with torch.no_grad():
        return model(
            input_ids=ids, past_key_values=DynamicCache(pairs), attention_mask=mask, position_ids=positions
        ).logits


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
@pytest.mark.parametrize("offset", ["none", "shift"])
def test_a_prefix_is_a_filled_cache_with_either_convention(name: str, offset: str) -> None:
    model = tiny.model(name)
    ids = tiny.inputs(name)["input_ids"]
    adapter = made(model, "prefix", position_offset=offset)
    wanted = through_the_cache(model, adapter, ids, P if offset == "shift" else 0)
    with torch.no_grad(), adaptr.attach(model, adapter):
        found = model(input_ids=ids).logits
    assert_close(found, wanted)
    other = through_the_cache(model, adapter, ids, 0 if offset == "shift" else P)
    assert (other - wanted).abs().max() > 1e-4, "the two conventions must differ for this test to say anything"


@pytest.mark.parametrize("name", ["opt", "gemma3", "t5"])
def test_shifted_positions_are_refused_where_they_are_not_exact(name: str) -> None:
    model = tiny.model(name)
    with pytest.raises(errors.Unsupported, match="shifted positions"):
        adaptr.attach(model, made(model, "prefix", position_offset="shift"))
    assert model.config._attn_implementation == "sdpa"


def test_two_prefixes_are_their_columns_side_by_side() -> None:
    model = tiny.model("llama")
    ids = tiny.inputs("llama")["input_ids"]
    one, two = made(model, "prefix"), shaken(made(model, "prefix"), seed=7)
    both = adaptr.create(model, "prefix", tokens=2 * P)
    both = both.replace(tensors={k: torch.cat([one.tensors[k], two.tensors[k]], dim=1) for k in both.tensors})
    with torch.no_grad():
        with adaptr.attach(model, both):
            wanted = model(input_ids=ids).logits
        with adaptr.attach(model, one), adaptr.attach(model, two):
            assert_close(model(input_ids=ids).logits, wanted)


def test_a_second_prompt_is_refused() -> None:
    model = tiny.model("llama")
    one, two = made(model, "prompt"), made(model, "prompt")
    with adaptr.attach(model, one), pytest.raises(errors.AlreadyAttached, match="concatenate"):
        adaptr.attach(model, two)


@pytest.mark.parametrize("method", ["prompt", "prefix", "lora", "houlsby", "parallel", "dora"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_checkpointed_gradients_are_the_gradients(name: str, method: str) -> None:
    model = tiny.model(name)
    adapter = shaken(adaptr.create(model, method, **({"m": 8} if method in {"houlsby", "parallel"} else {})))
    grads = []
    for checkpointed in (False, True):
        twin = copy.deepcopy(model)
        if checkpointed:
            twin.activation_checkpointing_enable()
        for module in twin.modules():
            module.training = True
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        with adaptr.train(twin, adapter) as session:
            twin(**tiny.inputs(name), use_cache=False).logits.square().mean().backward()
            grads.append([p.grad for p in session.parameters()])
    for plain, again in zip(*grads, strict=True):
        assert_close(again, plain)


def test_the_seed_draws_the_rows() -> None:
    model = tiny.model("llama")
    drawn = [adaptr.create(model, "prompt", tokens=4, seed=seed).tensors[":P"] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    rows = {tuple(row) for row in model.get_input_embeddings().weight.tolist()}
    assert all(tuple(row) in rows for row in drawn[2].tolist())
