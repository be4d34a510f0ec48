"""Places that have another name in the model than in the adapter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import adaptr
import tiny
from adaptr.adapter import Adapter, Base
from adaptr.errors import TargetAmbiguous, TargetNotFound
from adaptr.testing import assert_close, shaken


def said(model: nn.Module, kind: str) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**tiny.inputs(kind)).logits
    return found


def renamed(adapter: Adapter, old: str, new: str) -> Adapter:
    found = {path: path.replace(old, new, 1) for path in adapter.targets}
    assert all(path != now for path, now in found.items())
    return adapter.renamed(found).replace(base=Base())


def same(kind: str, old: str, new: str, targets: str = "all-linear") -> None:
    """What is attached under new names does what it does under its own."""
    model = tiny.model(kind)
    one = adaptr.create(model, "lora", targets, r=2)
    one = one.replace(tensors={key: torch.randn_like(t) for key, t in one.tensors.items()})
    with adaptr.attach(model, one):
        want = said(model, kind)
    with adaptr.attach(model, renamed(one, old, new)):
        assert torch.equal(said(model, kind), want)


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("llama", "model.", ""),  # of the model without its head
        ("llama", "model.", "base_model.model.model."),  # PEFT's wrapper, left twice
        ("llama", "model.", "module.model."),
        ("llama", "model.", "module.module.model."),
        ("llama", ".layers.", ".layers._orig_mod."),
        ("llama", ".self_attn.", "._checkpoint_wrapped_module.self_attn."),
        ("gpt2", "transformer.", ""),
        ("bert", "bert.", ""),
        ("roberta", "roberta.", ""),
        ("bart", "model.", ""),
    ],
)
def test_a_prefix_more_or_less(kind: str, old: str, new: str) -> None:
    same(kind, old, new, "attn.q|attn.qkv")


def test_names_of_a_model_with_a_head_on_one_without() -> None:
    whole = tiny.model("bert")
    one = adaptr.create(whole, "lora", "attn.q", r=2)
    adaptr.attach(whole.bert, one).detach()


@pytest.mark.parametrize("prefix", ["policy.", "thinker.", "x.y."])
def test_an_unknown_prefix_is_refused(prefix: str) -> None:
    model = tiny.model("llama")
    one = adaptr.create(model, "lora", "attn.q", r=2)
    with pytest.raises(TargetNotFound, match=rf"`{prefix}model.layers"):
        adaptr.attach(model, renamed(one, "model.", f"{prefix}model."))


def test_a_stack_of_one_kind_is_not_taken_for_another() -> None:
    """`block.0` of T5 alone may be the encoder's or the decoder's."""
    model = tiny.model("t5")
    one = adaptr.create(model, "lora", "encoder.block.*.q", r=2)
    with pytest.raises(TargetAmbiguous, match=r"`encoder\.block\.0.*`decoder\.block\.0"):
        adaptr.attach(model, renamed(one, "encoder.", ""))


def test_two_names_of_one_place_are_refused() -> None:
    """One of the two would be lost."""
    model = tiny.model("llama")
    one = adaptr.create(model, "lora", ["attn.q", "attn.k"], r=2)
    path = "model.layers.0.self_attn.q_proj"
    twice = one.renamed({"model.layers.0.self_attn.k_proj": path.removeprefix("model.")}).replace(base=Base())
    with pytest.raises(TargetAmbiguous, match="one place"):
        adaptr.attach(model, twice)


def stacked(model: nn.Module) -> Adapter:
    """Two LoRAs whose strengths are said by the names of the model without its head, and a norm replaced."""
    parts = {n: shaken(adaptr.create(model, "lora", ["attn.q", "mlp.up"], r=2, name=n), i) for i, n in enumerate("ab")}
    weights = {"a": [0.2, 1.0], "b": {"layers.0.*": 0.5, "*": -1.0}}
    with adaptr.stack(model, {n: (p, weights[n]) for n, p in parts.items()}) as stack:
        found = stack.adapted()
    return found.replace(tensors={**found.tensors, "norm.weight:=": torch.full((tiny.WIDTH,), 1.5)})


def test_strengths_are_those_of_the_names_that_the_adapter_was_given_by() -> None:
    """A pattern that met nothing any more would be another strength, in silence."""
    whole = tiny.model("llama")
    one = stacked(whole.model)
    with adaptr.attach(whole.model, one):
        want = said(whole, "llama")
    with adaptr.attach(whole, one) as handle:
        assert torch.equal(said(whole, "llama"), want)
        handle.weight = 0.5
        handle.weight = 1.0
        assert torch.equal(said(whole, "llama"), want)


def test_a_composite_that_learned_under_other_names_keeps_its_strengths() -> None:
    whole = tiny.model("llama")
    one = stacked(whole.model)
    with adaptr.train(whole, one) as session:
        want = said(whole, "llama")
        learned = session.adapted()
    with adaptr.attach(whole, learned):
        assert_close(said(whole, "llama"), want, 1e-6)


def test_strengths_in_a_pool_too() -> None:
    whole = tiny.model("llama")
    one = stacked(whole.model)
    one = one.replace(tensors={key: t for key, t in one.tensors.items() if not key.endswith(":=")})
    with adaptr.attach(whole, one):
        want = said(whole, "llama")
    with adaptr.pool(whole) as pool:
        pool.add("a", one)
        rows = len(tiny.inputs("llama")["input_ids"])
        with pool.rows(["a"] * rows):
            assert_close(said(whole, "llama"), want, 1e-5)


@pytest.mark.parametrize("weight", [[0.0, 1.0], {"layers.0.*": 1.0, "*": 0.3}])
def test_strengths_in_a_live_stack_too(weight: Any) -> None:
    whole = tiny.model("llama")
    one = shaken(adaptr.create(whole.model, "lora", "attn.q", r=2, name="a"))
    with adaptr.stack(whole.model, {"a": (one, weight)}):
        want = said(whole, "llama")
    with adaptr.stack(whole, {"a": (one, weight)}):
        assert torch.equal(said(whole, "llama"), want)


def test_what_an_adapter_reads_elsewhere_is_found_too() -> None:
    """The path of the module whose input it takes is a name like any other."""
    whole = tiny.model("llama")
    bare = whole.model
    one = shaken(adaptr.create(bare, "parallel", "layers.1.mlp", reads="layers.1.self_attn.q_proj"))
    with adaptr.attach(bare, one):
        want = said(whole, "llama")
    with adaptr.attach(whole, one):
        assert torch.equal(said(whole, "llama"), want)
