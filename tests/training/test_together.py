"""Several methods that one training trains as one adapter: `--method lora+prefix`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import adaptr
from adaptr.__main__ import main
from adaptr.errors import BadConfig, NotMergeable, UnknownMethod, Unsupported, UsageError
from adaptr.testing import assert_close, logits, shaken, tiny_llama
from adaptr.training.fields import recipe

IDS = torch.arange(14).reshape(2, 7) + 3
SAID: dict[str, Any] = {"lora": {"r": 2, "targets": ["mlp.down"]}, "prefix.tokens": 3}


@pytest.mark.parametrize("method", ["lora+prefix", "dora+prompt"])
def test_one_call_trains_both(base: Path, data: Path, tmp_path: Path, method: str) -> None:
    out, one, two = tmp_path / "a.safetensors", *method.split("+")
    said = [f"--set={one}.r=2", f"--set={two}.tokens=2", "--rate=0.02", "--steps=6", "--samples=0"]
    assert main(["train", str(base), f"--data={data}", f"--method={method}", "-o", str(out), *said, "-q"]) == 0
    adapter = adaptr.load(out)
    assert adapter.training["measured"]["after"]["loss"] < adapter.training["measured"]["before"]["loss"]
    assert {name: part.method for name, part in adapter.parts.items()} == {one: one, two: two}
    fresh = adaptr.create(AutoModelForCausalLM.from_pretrained(base), method, **{one: {"r": 2}, f"{two}.tokens": 2})
    assert all(not torch.equal(adapter.tensors[key], t) for key, t in fresh.tensors.items() if not key.endswith(".A"))


def test_it_is_each_part_attached_after_the_other() -> None:
    model = tiny_llama()
    both = shaken(adaptr.create(model, "lora+prefix", **SAID))
    assert {t.path.rpartition(".")[2] for t in both.parts["lora"].targets.values()} == {"down_proj"}
    with torch.no_grad():
        with adaptr.attach(model, both):
            together = logits(model(IDS))
        with adaptr.attach(model, both.part("lora")), adaptr.attach(model, both.part("prefix")):
            assert_close(logits(model(IDS)), together)


def test_each_part_learns_at_its_own_rate_in_proportion() -> None:
    model = tiny_llama()
    with adaptr.train(model, adaptr.create(model, "lora+did")) as session:
        assert sorted(group.rate for group in session.groups()) == pytest.approx([1.0, 30.0])


def test_what_is_merged_is_all_of_it_or_nothing() -> None:
    model = tiny_llama()
    for method, can in (("lora+dora", True), ("lora+prefix", False)):
        adapter = shaken(adaptr.create(model, method))
        if not can:
            with pytest.raises(NotMergeable, match="token positions"):
                adaptr.attach(model, adapter, merged=True)
            continue
        with torch.no_grad():
            with adaptr.attach(model, adapter):
                attached = logits(model(IDS))
            with adaptr.attach(model, adapter, merged=True):
                assert_close(logits(model(IDS)), attached)


@pytest.mark.parametrize(
    ("method", "config", "error", "said"),
    [
        ("lora+prefix", {"r": 3}, BadConfig, "a field of none of them, wanted `lora.r`"),
        ("lora+prefix", {"lora.z": 3}, BadConfig, "`lora` has no field `z`"),
        ("lora+prefix", {"ia3.side": "out"}, BadConfig, "wanted some of lora, prefix before the dot"),
        ("lora+lora", {}, BadConfig, "names `lora` twice"),
        ("lora+loora", {}, UnknownMethod, "no method `loora`"),
        ("lora+mam", {}, Unsupported, "made of other adapters itself"),
        ("lora+xlora", {}, UsageError, "weighs other adapters"),
        ("hybrid", {}, BadConfig, "names none"),
        ("hybrid", {"methods": ["lora"], "fields": {"dora": {}}}, BadConfig, "wanted some of lora"),
        ("hybrid", {"methods": ["lora"], "fields": {"lora": 3}}, BadConfig, "wanted fields of that method"),
    ],
)
def test_what_can_be_no_part_is_refused(method: str, config: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        adaptr.create(tiny_llama(), method, **config)


def test_targets_of_what_has_parts_are_refused_where_they_would_say_nothing() -> None:
    for method in ("mam", "lora+prefix"):
        with pytest.raises(UsageError, match="says itself where each of its parts goes"):
            adaptr.create(tiny_llama(), method, ["attn.q"])


def test_a_recipe_and_a_plan_name_them_alike() -> None:
    made = recipe(base="b", data="d", method="lora+prefix", config={"lora": {"r": 2}, "prefix.tokens": 3})
    assert made.method == "hybrid"
    assert made.config == {"methods": ["lora", "prefix"], "fields": {"lora": {"r": 2}, "prefix": {"tokens": 3}}}
    config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    sizes = {"num_attention_heads": 4, "vocab_size": 96}
    found = adaptr.plan({**config, **sizes}, ["lora+prefix", "lora", "prefix"]).ways
    counts = {way.estimate.method: way.estimate.trained for way in found}
    assert counts["hybrid"] == counts["lora"] + counts["prefix"]
