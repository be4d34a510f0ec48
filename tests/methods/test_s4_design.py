"""S4: groups of layers, each with methods of its own, and as many numbers in each layer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from transformers import RobertaConfig, RobertaModel, T5Config, T5ForConditionalGeneration

import adaptr
from adaptr import plugins
from adaptr.adapter.weighting import Layers
from adaptr.errors import BadConfig
from adaptr.testing import assert_close, logits, shaken, tiny_llama


def whole(name: str) -> Any:
    with torch.device("meta"):
        if name == "roberta":
            return RobertaModel(RobertaConfig())
        return T5ForConditionalGeneration(T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12))


def spread(adapter: adaptr.Adapter) -> dict[int, Counter[str]]:
    """By layer, how many numbers each method has there."""
    layers, found = Layers(target.path for _, target in adapter.all_targets), {}
    for part, target in adapter.all_targets:
        method = plugins.method(adapter.parts[part].method)
        found.setdefault(layers.number(target.path), Counter())[method.name] += method.count(target)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["t5", "roberta"])
@pytest.mark.parametrize("design", ["t5-base", "t5-3b"])
def test_each_group_has_its_methods_and_each_layer_as_many_numbers_within_the_budget(name: str, design: str) -> None:
    model = whole(name)
    with torch.device("meta"):
        found = spread(adaptr.create(model, "s4-design", design=design))
    groups = {"t5-base": ("AL", "AP", "APB", "PBL"), "t5-3b": ("PL", "AL", "PBL", "APB")}[design]
    called = {"A": "pfeiffer", "L": "lora", "P": "prefix", "B": "bitfit"}
    for layer, parts in found.items():
        letters = groups[(layer >= 2) + (layer >= 6) + (layer >= 10)]
        assert set(parts) == {called[letter] for letter in letters if letter != "B" or name == "roberta"}
    sums, budget = [sum(parts.values()) for parts in found.values()], 0.005 * sum(p.numel() for p in model.parameters())
    assert len(sums) == 12
    assert sum(sums) <= budget
    assert min(sums) > 0.9 * budget / 12
    if name == "t5":
        assert sum(sums) <= 1_114_517


def test_it_does_what_its_parts_do() -> None:
    model, ids = tiny_llama(), torch.arange(14).reshape(2, 7) + 3
    made = shaken(adaptr.create(model, "s4-design", budget=0.2))
    with torch.no_grad():
        with adaptr.attach(model, made):
            found = logits(model(ids))
        handles = [adaptr.attach(model, made.part(name)) for name in made.parts]
        assert_close(found, logits(model(ids)))
        for handle in handles:
            handle.detach()


def test_a_budget_that_nothing_fits_in_is_refused() -> None:
    with pytest.raises(BadConfig, match="too small for `pfeiffer`, which is to have"):
        adaptr.create(tiny_llama(), "s4-design")
    with pytest.raises(BadConfig, match=r"`budget` is 1e\+308, wanted at most 1"):
        adaptr.create(tiny_llama(), "s4-design", budget=1e308)


def test_a_plan_and_a_second_one_of_what_was_made_count_alike() -> None:
    model = tiny_llama()
    first = adaptr.create(model, "s4-design", budget=0.2)
    assert adaptr.create(model, "s4-design", made=first.config["made"]).tensors.keys() == first.tensors.keys()
