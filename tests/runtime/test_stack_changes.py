"""Stacks that are changed between calls: reordered, swapped, nested, moved; what doesn't fit changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import AlreadyAttached, UsageError, WrongBase
from adaptr.testing import assert_close, bits_equal, shaken
from runtime.stacks import adapter, four, out, summed


def test_the_order_counts_where_one_reads_what_others_changed() -> None:
    model = tiny.model("llama")
    lora, dora = adapter(model, 1), adapter(model, 2, "dora")
    with adaptr.stack(model, {"lora": lora, "dora": dora}) as stack:
        first = out(model)
        stack.reorder(["dora", "lora"])
        second = out(model)
        assert list(stack) == ["dora", "lora"]
        stack.reorder(["lora", "dora"])
        assert_close(out(model), first)
    with adaptr.attach(model, dora), adaptr.attach(model, lora):
        assert_close(out(model), second)
    assert float((first - second).abs().max()) > 1e-4


def test_others_on_the_model_keep_their_place() -> None:
    model = tiny.model("llama")
    a, b, dora = adapter(model, 1), adapter(model, 2, "dora"), adapter(model, 3, "dora")
    with adaptr.stack(model, {"a": a, "b": b}) as stack, adaptr.attach(model, dora):
        stack.reorder(["b", "a"])
        found = out(model)
    with adaptr.attach(model, b), adaptr.attach(model, a), adaptr.attach(model, dora):
        assert_close(found, out(model))


def test_hot_swap_keeps_place_weight_and_switch() -> None:
    model = tiny.model("llama")
    adapters = four(model)
    new = adapter(model, 9, "dora")
    with adaptr.stack(model, {**adapters, "b": (adapters["b"], 0.5)}) as stack:
        stack.swap("b", new)
        assert list(stack) == ["a", "b", "c", "d"]
        found = out(model)
        stack.off("b")
        stack.swap("b", adapters["b"])
        without = out(model)
    with adaptr.stack(model, {"a": adapters["a"], "b": (new, 0.5), "c": adapters["c"], "d": adapters["d"]}) as stack:
        assert_close(found, out(model))
        stack.remove("b")
        assert_close(without, out(model))
        assert "b" not in stack


def test_what_does_not_fit_changes_nothing() -> None:
    model, other = tiny.model("llama"), tiny.model("gpt2")
    adapters = four(model)
    foreign = adapter(other, 1, targets=["attn.o"])
    before = out(model)
    with adaptr.stack(model, {"a": adapters["a"], "b": adapters["b"]}) as stack:
        found = out(model)
        for change in (
            lambda: stack.swap("a", foreign),
            lambda: stack.add("c", foreign),
            lambda: stack.add("a", adapters["c"]),
            lambda: stack.add("c", adapters["a"]),
            lambda: stack.__setitem__("a", float("nan")),
            lambda: stack.__setitem__("x", 1.0),
            lambda: stack.reorder(["a"]),
            lambda: setattr(stack, "weight", float("inf")),
            lambda: stack.weigh(lambda path: 1.0),
        ):
            with pytest.raises((WrongBase, AlreadyAttached, UsageError)):
                change()
            assert bits_equal(out(model), found)
            assert list(stack) == ["a", "b"]
            assert stack.weight == 1.0
    assert bits_equal(out(model), before)
    with pytest.raises(WrongBase):
        adaptr.stack(model, {"a": adapters["a"], "b": foreign})
    assert bits_equal(out(model), before)


def test_stacks_nest_and_end_in_any_order() -> None:
    model = tiny.model("llama")
    adapters, before = four(model), out(model)
    outer = adaptr.stack(model, {"a": adapters["a"]})
    with adaptr.stack(model, {"b": adapters["b"]}):
        both = out(model)
        outer.detach()
        with adaptr.attach(tiny.model("llama"), adapters["b"]) as alone:
            assert_close(out(model), out(alone.model))
    assert bits_equal(out(model), before)
    assert_close(both, summed(tiny.model("llama"), adapters, {**dict.fromkeys("ab", 1.0), **dict.fromkeys("cd", 0.0)}))


def test_a_copied_model_is_independent_of_its_stack() -> None:
    model = tiny.model("llama")
    with adaptr.stack(model, four(model)) as stack:
        found = out(model)
        twin = copy.deepcopy(model)
        stack.only("a")
        assert bits_equal(out(twin), found)
        with pytest.raises(UsageError, match="copy the model"):
            copy.deepcopy(stack)
    assert bits_equal(out(twin), found)


def test_a_moved_model_takes_its_stack_along() -> None:
    model = tiny.model("llama")
    with adaptr.stack(model, four(model)):
        found = out(model)
        model.double()
        assert_close(out(model), found.double(), 1e-5)
        model.float()
        assert_close(out(model), found)
        layer = model.model.layers[0].self_attn.q_proj
        state = next(iter(layer.adapters.values()))
        state.register_parameter("A", torch.nn.Parameter(torch.zeros_like(state["A"]), requires_grad=False))
        assert float((out(model) - found).abs().max()) > 1e-4, "a factor that was replaced is seen"


def test_what_is_removed_or_swapped_is_forgotten() -> None:
    model = tiny.model("llama")
    one, two = (shaken(adaptr.create(model, "lora", seed=i), i) for i in (1, 2))
    with adaptr.stack(model, {"a": one}) as stack:
        stack.off("a")
        stack.remove("a")
        stack.add("a", one)
        assert stack.active == ("a",)
        stack.swap("a", two)
        with pytest.raises(AlreadyAttached, match="weights of `a`"):
            stack.add("b", two)
        stack.add("b", one)
        assert stack.active == ("a", "b")
