"""Adapters merged into a live model: what is in the way is said, and what was there comes back bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import (
    AlreadyAttached,
    ContentMismatch,
    NonFinite,
    NotMergeable,
    NotPossible,
    TiedWeights,
    Unsupported,
    UsageError,
)
from adaptr.testing import logits, shaken
from adaptr.testing.live import assert_same


def made(model: Any, method: str = "lora", targets: Any = None, seed: int = 1, **config: Any) -> Any:
    return shaken(adaptr.create(model, method, targets, **config), seed)


def state(model: Any) -> Any:
    return copy.deepcopy(model.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "oft"])
def test_in_any_dtype_it_is_bit_exact(dtype: torch.dtype, method: str) -> None:
    model = tiny.model("llama").to(dtype)
    adapter, before = made(model, method), state(model)
    handle = adaptr.attach(model, adapter, 0.7, merged=True)
    assert any(not torch.equal(t, before[k]) for k, t in model.state_dict().items())
    handle.detach()
    assert_same(model.state_dict(), before)


def test_every_order_of_three_gives_back_what_the_others_make() -> None:
    model = tiny.model("llama")
    bare = state(model)
    adapters = [made(model, "lora", seed=1, r=2), made(model, "dora", seed=2, r=2), made(model, "ia3", seed=3)]
    alone = {}
    for left in range(3):
        with adaptr.attach(model, adapters[left], merged=True):
            alone[left] = state(model)
    for first, second in ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)):
        handles = [adaptr.attach(model, adapter, merged=True) for adapter in adapters]
        handles[first].detach()
        handles[second].detach()
        left = 3 - first - second
        assert_same(model.state_dict(), alone[left])
        handles[left].detach()
        assert_same(model.state_dict(), bare)


def test_a_live_adapter_may_stand_on_top_and_not_below() -> None:
    model, given = tiny.model("llama"), tiny.inputs("llama")
    one, two = made(model, "lora", seed=1), made(model, "dora", seed=2)
    with torch.no_grad():
        with adaptr.attach(model, one), adaptr.attach(model, two):
            wanted = logits(model(**given))
        with adaptr.attach(model, two):
            alone = logits(model(**given))
            with pytest.raises(Unsupported, match=r"`dora` is attached at .*under it and not on top"):
                adaptr.attach(model, one, merged=True)
        merged = adaptr.attach(model, one, merged=True)
        with adaptr.attach(model, two):
            torch.testing.assert_close(logits(model(**given)), wanted, rtol=1e-5, atol=1e-5)
            merged.detach()
            assert torch.equal(logits(model(**given)), alone)


def test_the_base_is_known_through_what_is_merged() -> None:
    model, other = tiny.model("llama"), tiny.model("llama")
    with torch.no_grad():
        other.model.layers[0].mlp.up_proj.weight.mul_(2)
    right, wrong = made(model), made(other, seed=2)
    with adaptr.attach(model, made(model, seed=3), merged=True):
        adaptr.attach(model, right, merged=True).detach()
        with pytest.raises(ContentMismatch):
            adaptr.attach(model, wrong, merged=True)


def test_the_same_twice_is_refused_however_it_is_attached() -> None:
    model = tiny.model("llama")
    adapter = made(model)
    with adaptr.attach(model, adapter, merged=True) as handle:
        assert list(adaptr.host.attached(model)) == [handle.key]
        for merged in (True, False):
            with pytest.raises(AlreadyAttached):
                adaptr.attach(model, adapter, merged=merged)
    assert not adaptr.host.attached(model)


def test_a_weight_that_was_written_to_since_is_not_written_over() -> None:
    model = tiny.model("llama")
    handle = adaptr.attach(model, made(model), merged=True)
    with torch.no_grad():
        model.model.layers[1].self_attn.q_proj.weight.add_(1)
    now = state(model)
    with pytest.raises(Unsupported, match="has been written to since"):
        handle.detach()
    assert_same(model.state_dict(), now)


def test_a_model_that_was_cast_since_gets_its_old_values_in_the_new_dtype() -> None:
    model = tiny.model("llama")
    wanted = copy.deepcopy(model).to(torch.bfloat16).state_dict()
    handle = adaptr.attach(model, made(model), merged=True)
    model.to(torch.bfloat16)
    handle.detach()
    assert_same(model.state_dict(), wanted)


def test_nothing_is_left_of_one_that_overflows() -> None:
    model = tiny.model("llama").to(torch.float16)
    adapter = made(model)
    last = list(adapter.tensors)[-1]
    huge = adapter.replace(tensors={k: t * 1e9 if k == last else t for k, t in adapter.tensors.items()})
    before = state(model)
    with pytest.raises(NonFinite):
        adaptr.attach(model, huge, merged=True)
    assert_same(model.state_dict(), before)
    assert not adaptr.host.attached(model)


def test_a_tied_weight_needs_a_word() -> None:
    model = tiny.model("llama")
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.model.embed_tokens.weight
    adapter, before = made(model, targets=["embed"], r=2), state(model)
    with pytest.raises(TiedWeights, match=r"`model.embed_tokens.weight` is tied to `lm_head.weight`.*`tied=\"both\"`"):
        adaptr.attach(model, adapter, merged=True)
    with adaptr.attach(model, adapter, merged=True, tied="both"):
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert not torch.equal(model.lm_head.weight, before["lm_head.weight"])
    assert_same(model.state_dict(), before)


def test_two_deltas_of_one_tied_weight_are_refused() -> None:
    model = tiny.model("llama")
    model.lm_head.weight = model.model.embed_tokens.weight
    adapter = made(model, targets=["embed", "lm_head"], r=2)
    with pytest.raises(Unsupported, match="are one tensor, and both are changed"):
        adaptr.attach(model, adapter, merged=True, tied="both")


def test_a_stack_is_rounded_once_as_merging_does() -> None:
    model = tiny.model("llama").to(torch.bfloat16)
    parts = {"a": made(model, "lora", seed=1), "b": made(model, "dora", seed=2)}
    stack = adaptr.create(model, "stack", children=parts)
    with adaptr.attach(model, stack, 0.5, merged=True):
        got = state(model)
    with adaptr.attach(model, parts["a"], 0.5, merged=True), adaptr.attach(model, parts["b"], 0.5, merged=True):
        twice = state(model)
    assert any(not torch.equal(t, twice[k]) for k, t in got.items())
    assert all(torch.allclose(t, twice[k], rtol=2e-2, atol=2e-2) for k, t in got.items())


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_a_stack_has_its_own_weights_times_the_whole(weight: float) -> None:
    model = tiny.model("llama")
    parts = {"a": made(model, seed=1), "b": made(model, seed=2)}
    stack = adaptr.create(model, "stack", children=parts, weights={"a": 0.3, "b": [1.0, -0.7]})
    with adaptr.attach(model, stack, weight):
        live = logits(model(**tiny.inputs("llama")))
    with adaptr.attach(model, stack, weight, merged=True):
        assert torch.allclose(logits(model(**tiny.inputs("llama"))), live, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mixtral", "gpt-oss"])
def test_stacks_of_experts(name: str) -> None:
    model, given = tiny.model(name), tiny.inputs(name)
    adapter, before = made(model, "lora", ["mlp.down"], r=2), state(model)
    with torch.no_grad():
        with adaptr.attach(model, adapter):
            wanted = logits(model(**given))
        with adaptr.attach(model, adapter, merged=True):
            torch.testing.assert_close(logits(model(**given)), wanted, rtol=1e-5, atol=1e-5)
    assert_same(model.state_dict(), before)


def test_biases_and_whole_parameters() -> None:
    model = tiny.model("bert")
    adapter = made(model, "bitfit")
    head = torch.randn_like(model.classifier.weight)
    adapter = adapter.replace(tensors={**adapter.tensors, "classifier.weight:=": head})
    before = state(model)
    with adaptr.attach(model, adapter, merged=True):
        assert torch.equal(model.classifier.weight, head)
        assert not torch.equal(model.state_dict()["bert.pooler.dense.bias"], before["bert.pooler.dense.bias"])
    assert_same(model.state_dict(), before)
    with pytest.raises(NotPossible, match=r"no strength 0\.5"):
        adaptr.attach(model, adapter, 0.5, merged=True)


def test_a_bias_that_there_is_no_place_for() -> None:
    model = tiny.model("llama")
    with pytest.raises(Unsupported, match="there is no place for it in the weights"):
        adaptr.attach(model, made(model, "lora", bias=True), merged=True)


def test_a_weight_that_is_computed_and_one_without_values() -> None:
    model = tiny.model("llama")
    adapter = made(model, targets=["attn.q"])
    torch.nn.utils.parametrizations.weight_norm(model.model.layers[0].self_attn.q_proj)
    with pytest.raises(Unsupported, match="is computed from other parameters"):
        adaptr.attach(model, adapter.replace(base=adaptr.Base()), merged=True)
    with pytest.raises(Unsupported, match="meta device"):
        adaptr.attach(tiny.shell("llama"), made(tiny.model("llama")), merged=True)


def test_what_has_no_weight_is_refused_also_as_a_part() -> None:
    model = tiny.model("llama")
    before = state(model)
    for method in ("prompt", "prefix", "houlsby", "mam"):
        with pytest.raises(NotMergeable, match="Possible:"):
            adaptr.attach(model, made(model, method), merged=True)
    assert_same(model.state_dict(), before)


def test_its_strength_is_that_of_merging() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, made(model), 0.5, merged=True) as handle:
        assert handle.weight == 0.5
        with pytest.raises(UsageError, match="detach it, and attach it at another"):
            handle.weight = 1.0


def test_tied_is_a_word_about_merging() -> None:
    model = tiny.model("llama")
    with pytest.raises(UsageError, match="merged=True"):
        adaptr.attach(model, made(model), tied="both")


def test_inside_of_inference_mode() -> None:
    with torch.inference_mode():
        model = tiny.model("llama")
        adapter, before = made(model), state(model)
        handle = adaptr.attach(model, adapter, merged=True)
        handle.detach()
        assert_same(model.state_dict(), before)
    with adaptr.attach(tiny.model("llama"), adapter, merged=True):
        pass
