"""Stacks: the weighted sum of any adapters, by pattern, over layers, switched on and off."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adaptr
import tiny
from adaptr.host import beside
from adaptr.testing import assert_close, bits_equal, logits, shaken
from runtime.stacks import PATTERNS, WEIGHTS, adapter, four, out, summed


def test_a_stack_is_the_weighted_sum() -> None:
    model = tiny.model("llama")
    before, adapters = out(model), four(model)
    with adaptr.stack(model, {name: (one, WEIGHTS[name]) for name, one in adapters.items()}):
        assert_close(out(model), summed(tiny.model("llama"), adapters, WEIGHTS))
    assert bits_equal(out(model), before)


@given(weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, -1.0]), min_size=4, max_size=4), order=st.permutations("abcd"))
@settings(max_examples=15, deadline=None)
def test_any_weights_and_any_order_are_the_sum(weights: list[float], order: list[str]) -> None:
    model = tiny.model("llama")
    adapters = four(model)
    with adaptr.stack(model, adapters) as stack:
        out(model)
        stack.reorder(order)
        for name, weight in zip("abcd", weights, strict=True):
            stack[name] = weight
        assert_close(out(model), summed(tiny.model("llama"), adapters, dict(zip("abcd", weights, strict=True))))


def test_equal_sites_are_one_product_and_its_factors_lie_behind_each_other() -> None:
    model = tiny.model("llama")
    with adaptr.stack(model, four(model)) as stack:
        out(model)
        layer = model.model.layers[0].self_attn.q_proj
        states = list(layer.adapters.values())
        stores = {state["A"].untyped_storage().data_ptr() for state in states}
        assert len(stores) == 1
        assert states[1]["A"].untyped_storage().nbytes() == 4 * 32 * (2 + 3 + 4 + 5)
        stack.only("b", "d")
        out(model)
        assert {state["A"].untyped_storage().data_ptr() for state in states} == stores, "switching copies nothing"


def test_weights_by_pattern_and_over_layers() -> None:
    model = tiny.model("llama")
    adapters = four(model)
    with adaptr.stack(model, adapters) as stack:
        stack["b"] = PATTERNS
        stack["c"] = [0, 1]
        assert stack["b"] == PATTERNS
        wanted = {**dict.fromkeys("ad", 1.0), "b": PATTERNS, "c": {"*": 0.0, "*.layers.1.*": 1.0}}
        assert_close(out(model), summed(tiny.model("llama"), adapters, wanted))
        stack.weight = 0.5
        halves = {k: w / 2 if isinstance(w, float) else {p: v / 2 for p, v in w.items()} for k, w in wanted.items()}
        assert_close(out(model), summed(tiny.model("llama"), adapters, halves))


def test_switched_off_is_not_there_and_on_again_is_as_before() -> None:
    model = tiny.model("llama")
    before, adapters = out(model), four(model)
    with adaptr.stack(model, adapters) as stack:
        all_of_them = out(model)
        stack.only("b")
        assert stack.active == ("b",)
        with adaptr.attach(tiny.model("llama"), adapters["b"]) as alone:
            assert_close(out(model), out(alone.model))  # its products may be summed in another order
        stack.off("b")
        assert bits_equal(out(model), before)
        stack["c"] = 0.3  # kept for later
        assert bits_equal(out(model), before)
        stack["c"] = 1
        stack.on("a", "b", "c", "d")
        assert bits_equal(out(model), all_of_them)


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "loha", "houlsby", "prefix", "prompt", "bitfit"])
def test_adapters_of_any_method_stack(method: str) -> None:
    architecture = "gpt2" if method == "bitfit" else "llama"
    model = tiny.model(architecture)
    sizes = {"houlsby": {"m": 4}, "prefix": {"tokens": 2}, "prompt": {"tokens": 2}, "ia3": {}, "bitfit": {}}
    other = adapter(model, 2, method, None, **sizes.get(method, {"r": 2}))
    lora = adapter(model, 1, targets=["attn.o"], r=2)
    with adaptr.attach(model, lora), adaptr.attach(model, other):
        wanted = out(model, architecture)
    with adaptr.stack(model, {"lora": lora, "other": other}) as stack:
        assert_close(out(model, architecture), wanted)
        stack.off("other")
        with adaptr.attach(tiny.model(architecture), lora) as alone:
            assert_close(out(model, architecture), out(alone.model, architecture))
        stack.on("other")
        assert_close(out(model, architecture), wanted)
        saved = stack.adapted()
    with adaptr.attach(model, saved):
        assert_close(out(model, architecture), wanted)


def test_with_gradients_it_is_the_same() -> None:
    model = tiny.model("llama")
    with adaptr.stack(model, four(model)) as stack:
        found = out(model)
        assert_close(logits(model(**tiny.inputs("llama"))), found)
        stack["a"] = 0.0
        assert_close(logits(model(**tiny.inputs("llama"))), out(model))


def test_a_layer_remembers_so_many_choices_of_strengths_and_no_more() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    for seed in (1, 2):
        adaptr.attach(model, shaken(adaptr.create(model, "lora", "0", r=2), seed))
    product = beside._laid_out(list(model[0].adapters.values()))
    for number in range(2 * beside.KEPT):
        product.choose([1.0, float(number)])
        assert len(product._chosen) <= beside.KEPT
