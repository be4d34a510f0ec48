"""Stacks: the weighted sum, changed between calls in every way, saved and merged as one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adaptr
import tiny
from adaptr.errors import AlreadyAttached, BadConfig, DigestMismatch, NotPossible, Unsupported, UsageError, WrongBase
from adaptr.host import beside
from adaptr.testing import assert_close, bits_equal, logits, shaken

TARGETS = ["attn.q", "attn.v", "mlp.down"]
WEIGHTS = {"a": 1.0, "b": 0.5, "c": -0.25, "d": 0.75}
PATTERNS = {"*": 0.5, "*.mlp.*": 0.0, "*.layers.1.*": 2.0}


def adapter(model: Any, seed: int, method: str = "lora", targets: Any = TARGETS, **config: Any) -> adaptr.Adapter:
    config = config or ({"r": 1 + seed} if method in {"lora", "dora", "loha"} else {})
    return shaken(adaptr.create(model, method, targets, seed=seed, **config), seed)


def four(model: Any) -> dict[str, adaptr.Adapter]:
    return {name: adapter(model, seed) for seed, name in enumerate("abcd", 1)}


def out(model: Any, name: str = "llama") -> torch.Tensor:
    with torch.inference_mode():
        return logits(model(**tiny.inputs(name))).clone()


def summed(model: Any, adapters: Mapping[str, adaptr.Adapter], weights: Mapping[str, Any]) -> torch.Tensor:
    """The output with W + Σ w D written into the weights, by hand in fp64."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, one in adapters.items():
            for path in one.targets:
                weight = twin.get_submodule(path).weight
                scaled = one[path] * at(weights[name], path)
                weight.copy_((weight.double() + scaled.dense(torch.float64)).float())
    return out(twin)


def at(weight: Any, path: str) -> float:
    from fnmatch import fnmatch

    return weight if isinstance(weight, float) else [w for p, w in weight.items() if fnmatch(path, p)][-1]


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


def test_the_same_weights_twice_are_refused_even_from_two_files(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adaptr.save(adapter(model, 1), tmp_path / "a.safetensors")
    one, two = adaptr.load(tmp_path / "a.safetensors"), adaptr.load(tmp_path / "a.safetensors")
    with pytest.raises(AlreadyAttached, match="the weights of `a`; give it once"):
        adaptr.stack(model, {"a": one, "b": two})


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


def test_with_gradients_it_is_the_same() -> None:
    model = tiny.model("llama")
    with adaptr.stack(model, four(model)) as stack:
        found = out(model)
        assert_close(logits(model(**tiny.inputs("llama"))), found)
        stack["a"] = 0.0
        assert_close(logits(model(**tiny.inputs("llama"))), out(model))


def test_saved_as_one_file_it_comes_back_whole(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adapters = {**four(model), "e": adapter(model, 5, "dora", ["mlp.up"])}
    with adaptr.stack(model, {name: (one, WEIGHTS.get(name, 1.0)) for name, one in adapters.items()}) as stack:
        stack["d"] = PATTERNS
        stack.off("a")
        stack.reorder("ebcda")
        found, saved = out(model), stack.adapted("mixture")
    file = tmp_path / "stack.safetensors"
    adaptr.save(saved, file)
    loaded = adaptr.load(file)
    assert [parent["name"] for parent in loaded.lineage["parents"]] == list("ebcda")
    with adaptr.attach(model, loaded):
        assert_close(out(model), found)
    with adaptr.stack(model, file) as stack:
        assert (list(stack), stack.active, stack["d"]) == (list("ebcda"), tuple("ebcd"), PATTERNS)
        assert_close(out(model), found)
        stack.on("a")
    again = tmp_path / "again.safetensors"
    adaptr.save(loaded, again)
    assert again.read_bytes() == file.read_bytes()


def test_merged_as_a_whole_it_is_what_was_attached(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = tmp_path / "base"
    tiny.model("llama").save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    dora = adapter(model, 5, "dora", ["attn.q"])
    with adaptr.stack(model, {**four(model), "e": dora}) as stack:
        stack["b"] = PATTERNS
        stack.off("c")
        found, saved = out(model), stack.adapted()
    adaptr.save(saved, tmp_path / "stack.safetensors")
    adaptr.merge(base, [tmp_path / "stack.safetensors"], tmp_path / "merged")
    assert_close(out(AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()), found)
    assert adaptr.verify(tmp_path / "merged", base, [tmp_path / "stack.safetensors"]).exact
    adaptr.unmerge(tmp_path / "merged", tmp_path / "back")
    assert (tmp_path / "back/model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_a_changed_part_is_refused(tmp_path: Path) -> None:
    model = tiny.model("llama")
    with adaptr.stack(model, four(model)) as stack:
        saved = stack.adapted()
    key = next(key for key in saved.tensors if key.endswith(":b.A"))
    file = tmp_path / "stack.safetensors"
    adaptr.save(saved.replace(tensors={**saved.tensors, key: saved.tensors[key] + 1}), file)
    with pytest.raises(DigestMismatch, match="its part `b` has weights of digest"):
        adaptr.load(file)


def test_what_can_be_no_part_is_refused() -> None:
    model = tiny.model("llama")
    a, mam = adapter(model, 1), adaptr.create(model, "mam", m=4, tokens=2)
    with adaptr.stack(model, {"a": a, "mam": mam}) as stack, pytest.raises(Unsupported, match="made of other adapters"):
        stack.adapted()
    with (
        adaptr.stack(model, {"Not a name": a}) as stack,
        pytest.raises(UsageError, match="can't be the name of a part"),
    ):
        stack.adapted()
    with pytest.raises(UsageError, match="none was given"):
        adaptr.stack(model, {}).adapted()
    with pytest.raises(UsageError, match="is no stack"):
        adaptr.stack(model, a)
    with pytest.raises(BadConfig, match="wanted"):
        adaptr.create(model, "stack", children={"a": a}, order=["b"])


def test_whole_parameters_of_parts_come_along(tmp_path: Path) -> None:
    model = tiny.model("llama")
    norm = "model.norm.weight"
    one = adapter(model, 1)
    one = one.replace(tensors={**one.tensors, f"{norm}:=": torch.linspace(0.5, 2, 32)})
    two, three = adapter(model, 2), adapter(model, 3)
    three = three.replace(tensors={**three.tensors, f"{norm}:=": torch.ones(32)})
    with adaptr.stack(model, {"one": one, "two": two}) as stack:
        found, saved = out(model), stack.adapted()
        with pytest.raises(AlreadyAttached, match="has replaced"):
            stack.add("three", three)
    adaptr.save(saved, tmp_path / "stack.safetensors")
    with adaptr.attach(model, adaptr.load(tmp_path / "stack.safetensors")):
        assert_close(out(model), found)
    assert adaptr.inspect(tmp_path / "stack.safetensors").replaced == (norm,)
    with pytest.raises(NotPossible, match="both replace"):
        adaptr.create(model, "stack", children={"one": one, "three": three})


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


def test_a_layer_remembers_so_many_choices_of_strengths_and_no_more() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    for seed in (1, 2):
        adaptr.attach(model, shaken(adaptr.create(model, "lora", "0", r=2), seed))
    product = beside._laid_out(list(model[0].adapters.values()))
    for number in range(2 * beside.KEPT):
        product.choose([1.0, float(number)])
        assert len(product._chosen) <= beside.KEPT
