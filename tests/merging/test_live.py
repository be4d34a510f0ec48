"""Adapters merged into a live model: what is in the way is said, and what was there comes back bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.checkpoint.stream import BLOCK
from adaptr.errors import (
    AlreadyAttached,
    ContentMismatch,
    NonFinite,
    NotMergeable,
    NotPossible,
    Unsupported,
    UsageError,
)
from adaptr.merging.in_memory import changes
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


@pytest.mark.parametrize(("kind", "method"), [("llama", "oft"), ("llama", "qlora"), ("opt", "bitfit"), ("opt", "beft")])
def test_at_a_strength_of_nothing_the_base_is_the_base(kind: str, method: str) -> None:
    model = tiny.model(kind)
    before = state(model)
    with adaptr.attach(model, made(model, method), 0.0, merged=True):
        assert_same(model.state_dict(), before)
    assert_same(model.state_dict(), before)


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


def test_what_an_attached_adapter_replaces_is_not_merged_into_nor_written_over() -> None:
    model = tiny.model("llama")
    whole = made(model, targets=["attn.q"], also="head", seed=2)
    before, low = state(model), made(model, targets=["lm_head"], r=2).replace(base=adaptr.Base())
    with adaptr.attach(model, whole), pytest.raises(Unsupported, match="is replaced by an adapter that is attached"):
        adaptr.attach(model, low, merged=True)
    merged = adaptr.attach(model, low, merged=True)
    with adaptr.attach(model, whole.replace(base=adaptr.Base())):
        now = state(model)
        with pytest.raises(Unsupported, match="detach what was attached later"):
            merged.detach()
        assert_same(model.state_dict(), now)
    merged.detach()
    assert_same(model.state_dict(), before)


def test_a_parameter_that_was_put_in_its_place_since_is_not_written_over() -> None:
    model = tiny.model("llama")
    handle = adaptr.attach(model, made(model), merged=True)
    model.load_state_dict({k: t.clone() for k, t in state(model).items()}, assign=True)
    with pytest.raises(Unsupported, match="has been written to since"):
        handle.detach()


def test_what_cannot_be_merged_anew_without_another_stays_as_it_is() -> None:
    model = tiny.model("llama").to(torch.float16)
    path = "model.layers.0.self_attn.q_proj"
    weight = model.get_submodule(path).weight
    with torch.no_grad():
        weight[0, 0] = 60000
    before = state(model)
    down, up = (made(model, targets=[path], r=1, alpha=1, seed=n) for n in (1, 2))
    for adapter, sign in ((down, -1), (up, 1)):
        for key, tensor in adapter.tensors.items():
            tensor.zero_()
            tensor.view(-1)[0] = 100.0 if key.endswith(":A") else sign * 100.0
    first, second = (adaptr.attach(model, a, merged=True) for a in (down, up))
    now = state(model)
    with pytest.raises(NonFinite):
        first.detach()
    assert_same(model.state_dict(), now)
    second.detach()
    first.detach()
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_a_large_weight_is_written_in_blocks(method: str) -> None:
    """Beside what is kept for `detach`, merging needs a block and no second weight."""
    model = torch.nn.Sequential(torch.nn.Linear(512, 2048))
    adapter = made(model, method, ["0"])
    (change,) = (c for c in changes(model, adapter, 1.0) if c.what == "weight")
    sizes = [value.numel() for _, value in change.make(model[0].weight.detach())]
    assert len(sizes) > 1
    assert max(sizes) <= BLOCK
