"""Places that have another name in the model than in the adapter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import adaptr
import tiny
from adaptr.adapter import Adapter, Base
from adaptr.errors import TargetAmbiguous, TargetNotFound


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
